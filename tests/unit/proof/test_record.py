"""A proof as JSON and back."""

import json

import pytest

from lmi_artifacts.digest import JSONValue
from lmi_compile.proof.record import (
    Event,
    Observer,
    Proof,
    ProofUnreadable,
    Timing,
    parse,
)

_TIMING = Timing(
    seconds_to_ready=1.5,
    cpu_seconds_to_ready=1.25,
    seconds_to_first_token=2.5,
    cpu_seconds_to_first_token=2.25,
    seconds=3.0,
    cpu_seconds=2.75,
)
_PROOF = Proof(
    decision="PROVEN",
    noted=(Event(kind="local-socket", what="contacts the socket /s", path="/s", times=2),),
    checked=("a", "b"),
    djl_python="stand-in",
    response="{}",
    traced=_TIMING,
    plain=_TIMING,
    observer=Observer(
        strace="strace -- version 6.1",
        kernel="6.18",
        namespaces=("mount", "user"),
        fresh_proc=True,
        calls=7,
    ),
)
_REFUTED = Proof(
    decision="REFUTED",
    reasons=("executes gcc",),
    events=(Event(kind="compiler", what="executes gcc", path="/usr/bin/gcc", call="execve()"),),
    events_total=1,
)


@pytest.mark.parametrize("proof", [_PROOF, _REFUTED, Proof(decision="SKIPPED", reasons=("no",))])
def test_survives_json_text(proof: Proof) -> None:
    assert parse(json.loads(json.dumps(proof.to_json()))) == proof
    assert parse(proof.to_json()) == proof


def test_the_artifacts_own_figures_are_those_without_the_observer() -> None:
    value = _PROOF.to_json()
    assert value["seconds_to_first_token"] == 2.5
    assert value["cpu_seconds_to_first_token"] == 2.25
    assert _REFUTED.to_json()["seconds_to_first_token"] is None
    assert "2.25 CPU s" in _PROOF.line()
    assert _REFUTED.line() == "REFUTED: executes gcc"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format"),
        ({"decision": "MAYBE"}, "MAYBE"),
        ({"surprise": 1}, "surprise"),
        ({"events": [{"kind": "write"}]}, "what"),
        ({"events": None}, "NoneType"),
        ({"traced": {"seconds": 1}}, "cpu_seconds"),
        ({"observer": {"strace": "x"}}, "namespaces"),
    ],
)
def test_refuses_another_shape(change: dict[str, JSONValue], says: str) -> None:
    with pytest.raises(ProofUnreadable, match=says):
        parse({**_PROOF.to_json(), **change})


def test_refuses_a_missing_field_and_no_object() -> None:
    value = _PROOF.to_json()
    del value["reasons"]
    with pytest.raises(ProofUnreadable, match="reasons"):
        parse(value)
    with pytest.raises(ProofUnreadable):
        parse([])
