"""How a continuation ends."""

from types import SimpleNamespace
from typing import Any

import pytest

from lmi_compile.backends.aoti.runtime.generate import Generation, generate
from lmi_compile.backends.aoti.runtime.request import BadRequest, Parameters
from lmi_compile.backends.aoti.runtime.service import Service

PROMPT = "and the thing is"


@pytest.fixture(scope="module")
def service(built: SimpleNamespace) -> Service:
    return Service(built.package)


def _generate(service: Service, eos: frozenset[int] = frozenset(), **parameters: Any) -> Generation:
    ids = service.tokenizer.encode(PROMPT).ids
    return generate(service.graphs, service.tokenizer, ids, Parameters(**parameters), eos)


def test_an_end_token_ends_it_and_is_counted(service: Service) -> None:
    free = _generate(service, max_new_tokens=20)
    assert free.finish_reason == "length"
    last = free.tokens[7].id
    first = [token.id for token in free.tokens].index(last)
    done = _generate(service, frozenset({last}), max_new_tokens=20)
    assert done.finish_reason == "eos_token"
    assert done.tokens == free.tokens[: first + 1]


def test_a_stop_sequence_ends_it_and_is_not_in_the_text(service: Service) -> None:
    free = _generate(service, max_new_tokens=20)
    stop = free.text[6:8]
    done = _generate(service, max_new_tokens=20, stop_sequences=("never this", stop))
    assert done.finish_reason == "stop_sequence"
    assert done.text == free.text[: free.text.index(stop)]
    assert done.tokens == free.tokens[: len(done.tokens)]
    assert len(done.tokens) < 20


def test_a_text_may_fill_every_slot_and_no_more(service: Service) -> None:
    slots = service.graphs.max_seq_len
    prompt = len(service.tokenizer.encode(PROMPT).ids)
    assert len(_generate(service, max_new_tokens=slots - prompt).tokens) == slots - prompt
    with pytest.raises(BadRequest, match="max_new_tokens"):
        _generate(service, max_new_tokens=slots - prompt + 1)


def test_an_empty_prompt_is_refused(service: Service) -> None:
    with pytest.raises(BadRequest, match="no tokens"):
        generate(service.graphs, service.tokenizer, [], Parameters(), frozenset())
