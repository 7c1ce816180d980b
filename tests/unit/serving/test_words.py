"""Chat templates as transformers renders them, and stop texts that are never half said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lmi_compile.errors import ModelFault
from lmi_compile.serving.limits import Refused
from lmi_compile.serving.openai_api import Held
from lmi_compile.serving.template import ChatTemplate

CONVERSATION = [
    {"role": "system", "content": "be {{ brief }} & <b>"},
    {"role": "user", "content": "grüße\n"},
]
HARD = """{%- for message in messages -%}
    {%- if loop.first and message.role != 'system' %}{{ raise_exception('no system') }}{% endif %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
    {{- bos_token + message.role | upper }}: {{ message.content | trim | tojson }}
{%- endfor %}
{% if add_generation_prompt %}{{ eos_token }}{{ strftime_now('%Y') }}{% endif %}"""


@pytest.mark.parametrize("template", [None, HARD], ids=["own", "hard"])
def test_a_template_renders_as_in_transformers(
    make_tiny_llama: Callable[..., Path], tmp_path: Path, template: str | None
) -> None:
    model = make_tiny_llama(tmp_path / "model")
    if template is not None:
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(model)
    told = tokenizer.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    assert ChatTemplate(model).render(CONVERSATION) == told


def test_a_template_that_refuses_a_conversation_is_a_400(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(HARD, encoding="utf-8")
    with pytest.raises(Refused, match="refuses the messages: no system") as refused:
        ChatTemplate(tmp_path).render(CONVERSATION[1:])
    assert refused.value.status == 400


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has no chat template; send a prompt instead"):
        ChatTemplate(tmp_path).render(CONVERSATION)


def test_a_template_cannot_reach_python(tmp_path: Path) -> None:
    text = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    (tmp_path / "chat_template.jinja").write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match="unsafe"):
        ChatTemplate(tmp_path).render(CONVERSATION)


def test_a_template_that_is_not_jinja_stops_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{% if %}", encoding="utf-8")
    with pytest.raises(ModelFault, match="chat template cannot be read"):
        ChatTemplate(tmp_path)


PIECES = st.lists(st.text(alphabet="ab ", max_size=3), max_size=12)


@given(pieces=PIECES, stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3))
def test_a_stream_never_says_a_part_of_a_stop_and_misses_nothing(
    pieces: list[str], stops: list[str]
) -> None:
    whole = "".join(pieces)
    places = [whole.find(stop) for stop in stops if stop in whole]
    final = whole[: min(places)] if places else whole
    held, said = Held(stops), ""
    for piece in pieces:
        said += held.add(piece)
        assert final.startswith(said)
        assert not any(stop in said for stop in stops)
    assert said + held.rest(final) == final
