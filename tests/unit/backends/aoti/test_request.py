"""Requests: defaults, and every refusal names its field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_compile.backends.aoti.runtime.request import BadRequest, Parameters, parse

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
_NAMES = [*Parameters.__dataclass_fields__]


def test_the_defaults_are_those_of_the_schema() -> None:
    assert parse({"inputs": "x"}).parameters == Parameters(max_new_tokens=30)
    assert parse({"inputs": "x", "parameters": None, "stream": False}).inputs == "x"


def test_every_parameter_arrives() -> None:
    parameters = {
        "max_new_tokens": 3,
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "seed": 1,
        "stop_sequences": ["a"],
        "details": True,
        "return_full_text": True,
    }
    parsed = parse({"inputs": "x", "parameters": parameters}).parameters
    assert set(parameters) == set(_NAMES)
    assert parsed == Parameters(**{**parameters, "stop_sequences": ("a",)})


def test_parameters_of_other_servers_pass_where_they_change_nothing() -> None:
    neutral = {"best_of": 1, "watermark": False, "typical_p": 1, "frequency_penalty": 0.0}
    assert parse({"inputs": "x", "parameters": neutral}).parameters == Parameters()


def test_stop_is_another_name_for_stop_sequences() -> None:
    assert parse({"inputs": "x", "parameters": {"stop": ["a"]}}).parameters.stop_sequences == ("a",)
    with pytest.raises(BadRequest, match="mean the same"):
        parse({"inputs": "x", "parameters": {"stop": ["a"], "stop_sequences": ["a"]}})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "inputs"),
        ({"inputs": ""}, "inputs"),
        ({"inputs": ["x"]}, "inputs"),
        ({"inputs": "x", "prompt": "y"}, "prompt"),
        ({"inputs": "x", "stream": "yes"}, "stream"),
        ({"inputs": "\ud800"}, "surrogate"),
        ({"inputs": "x", "parameters": []}, "parameters"),
    ],
)
def test_a_wrong_body_names_what_is_wrong(body: object, field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        parse(body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", True),
        ("max_new_tokens", 2.0),
        ("do_sample", 1),
        ("temperature", 0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("seed", -1),
        ("seed", 1 << 63),
        ("stop_sequences", "stop"),
        ("stop_sequences", [""]),
        ("stop_sequences", ["x"] * 17),
        ("details", "true"),
        ("return_full_text", 0),
        ("max_tokens", 5),
        ("repetition_penalty", 0),
        ("stop", ["x"] * 1000),
        ("stop", ["\udfff"]),
        ("best_of", 2),
        ("best_of", True),
        ("watermark", True),
        ("typical_p", 0.5),
        ("x" * 1000, 1),
    ],
)
def test_a_wrong_parameter_names_itself(name: str, value: object) -> None:
    given = {"inputs": "x", "parameters": {name: value}}
    with pytest.raises(BadRequest, match=rf"parameters\.'?{name[:30]}|stop_sequences") as refused:
        parse(given)
    assert len(str(refused.value)) < 300


def _refusal(body: object) -> str:
    """Why the body is refused; empty when it is not."""
    try:
        parse(body)
    except BadRequest as error:
        return str(error) or "refused without a word"
    return ""


@given(body=_JSON)
def test_any_json_is_parsed_or_refused_in_words(body: object) -> None:
    assert _refusal(body) != "refused without a word"


@given(parameters=st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_any_parameters_are_parsed_or_refused_by_name(parameters: dict[str, object]) -> None:
    body = {"inputs": "x", "parameters": parameters}
    refusal = _refusal(body)
    assert not refusal or "parameters." in refusal
    if not refusal:
        parsed = parse(body).parameters
        assert parsed.max_new_tokens >= 1
        assert 0 < parsed.top_p <= 1
        assert parsed.temperature > 0
