"""Several requests at once: each gets the tokens that it would get alone."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lmi_artifacts.container import RULES
from lmi_compile.backends.aoti.runtime.batching import Batcher
from lmi_compile.backends.aoti.runtime.generate import Generation, Token
from lmi_compile.backends.aoti.runtime.graphs import LimitExceeded
from lmi_compile.backends.aoti.runtime.request import BadRequest
from lmi_compile.backends.aoti.runtime.service import Service

WORKER = Path(__file__).parents[3] / "simulators" / "djl_python_simulator" / "worker.py"
WORDS = ("and", " the", " thing", " is", " of", " a", " 7")


@pytest.fixture(scope="module")
def service(built_for_three: SimpleNamespace) -> Service:
    return Service(built_for_three.package)


@pytest.fixture(scope="module")
def batcher(service: Service) -> Batcher:
    return Batcher(service)


def _body(text: str, **parameters: object) -> bytes:
    return json.dumps({"inputs": text, "parameters": {"details": True, **parameters}}).encode()


def _ask(batcher: Batcher, body: bytes) -> "Future[Generation]":
    return batcher.submit(*batcher.service.read(body))


def _tokens(done: Generation) -> list[int]:
    return [token.id for token in done.tokens]


def test_greedy_is_the_models_own_continuation(
    built_for_three: SimpleNamespace, service: Service, batcher: Batcher
) -> None:
    model = AutoModelForCausalLM.from_pretrained(built_for_three.model).eval()
    texts = ["and the thing", "a", "the thing is of the thing and the thing", "7 of 7", "is"]
    promises = [_ask(batcher, _body(text, max_new_tokens=9)) for text in texts]
    for text, promise in zip(texts, promises, strict=True):
        prompt = service.tokenizer.encode(text).ids
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=9, do_sample=False)[0]
        assert _tokens(promise.result(60)) == whole[len(prompt) :].tolist()


REQUESTS = st.tuples(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map("".join),
    st.integers(1, 12),
    st.one_of(st.none(), st.integers(0, 3)),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(asked=st.lists(REQUESTS, min_size=1, max_size=7))
def test_neighbours_change_nothing(
    batcher: Batcher, asked: list[tuple[str, int, int | None]]
) -> None:
    bodies = [
        _body(text, max_new_tokens=new, do_sample=seed is not None, seed=seed)
        for text, new, seed in asked
    ]
    promises = [_ask(batcher, body) for body in bodies]
    together = [promise.result(60) for promise in promises]
    alone = [_ask(batcher, body).result(60) for body in bodies]
    assert [_tokens(answer) for answer in together] == [_tokens(answer) for answer in alone]
    for one, other in zip(together, alone, strict=True):
        for token, same in zip(one.tokens, other.tokens, strict=True):
            assert token.log_prob == pytest.approx(same.log_prob, abs=1e-4)


SEQUENCES = st.lists(
    st.tuples(st.integers(1, 128), st.integers(1, 96)).map(lambda pair: (pair[0], min(pair))),
    min_size=1,
    max_size=3,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sequences=SEQUENCES, seed=st.integers(0, 999))
@example(sequences=[(128, 96), (128, 1), (2, 1)], seed=0)  # to the last slot of all
def test_logits_are_the_models_whatever_the_length_the_graph_and_the_neighbours(
    built_for_three: SimpleNamespace, service: Service, sequences: list[tuple[int, int]], seed: int
) -> None:
    """Texts of any length, read to any place, then a token at a time: alone or with the others."""
    graphs, draw = service.graphs, random.Random(seed)
    model = AutoModelForCausalLM.from_pretrained(built_for_three.model).eval()
    texts = [torch.tensor(draw.choices(range(graphs.vocab_size), k=end)) for end, _ in sequences]
    with torch.no_grad():
        expected = [model(text[None]).logits[0] for text in texts]

    def hold(slot: int, place: int, row: torch.Tensor) -> None:
        limit = 1e-5 * float(expected[slot].abs().max())
        assert float((row - expected[slot][place]).abs().max()) <= limit, (slot, place)

    places = [begin for _, begin in sequences]
    for slot in draw.sample(range(len(texts)), len(texts)):
        last = torch.tensor([places[slot] - 1])
        hold(slot, places[slot] - 1, graphs.prefill(texts[slot][: places[slot]], last, slot)[0])
    while left := [slot for slot, place in enumerate(places) if place < len(texts[slot])]:
        if draw.random() < 0.3:
            one = draw.choice(left)
            rows = {one: graphs.decode(int(texts[one][places[one]]), places[one], one)}
        else:
            tokens, positions = [0] * graphs.batch, [0] * graphs.batch
            for slot in left:
                tokens[slot], positions[slot] = int(texts[slot][places[slot]]), places[slot]
            logits = graphs.step(tokens, positions)
            rows = {slot: logits[slot] for slot in left}
        for slot, row in rows.items():
            hold(slot, places[slot], row)
            places[slot] += 1


def test_every_slot_is_used_to_the_last_position(
    service: Service, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "eos_token_ids", frozenset())
    text = " the thing" * 8
    room = service.graphs.max_seq_len - len(service.tokenizer.encode(text).ids)
    promises = [_ask(batcher, _body(text, max_new_tokens=room)) for _ in range(4)]
    answers = [_tokens(promise.result(120)) for promise in promises]
    assert all(len(answer) == room for answer in answers)
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(BadRequest, match="together more than this model's 128"):
        _ask(batcher, _body(text, max_new_tokens=room + 1))


def test_a_cancelled_request_frees_its_slot(
    service: Service, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = threading.Event()
    for name in ("decode", "step"):
        real = getattr(service.graphs, name)

        def held(*given: object, real: Callable[..., torch.Tensor] = real) -> torch.Tensor:
            cancelled.wait(60)
            return real(*given)

        monkeypatch.setattr(service.graphs, name, held)
    promises = [_ask(batcher, _body("and", max_new_tokens=120)) for _ in range(6)]
    assert all(promise.cancel() for promise in promises)
    cancelled.set()
    with pytest.raises(CancelledError):
        promises[0].result(5)
    assert len(_tokens(_ask(batcher, _body("and", max_new_tokens=3)).result(60))) == 3


def test_what_breaks_a_step_breaks_its_requests_and_nothing_after_them(
    built_for_three: SimpleNamespace,
) -> None:
    own = Service(built_for_three.package)
    batcher, decode = Batcher(own), own.graphs.decode

    def broken(token: object, position: object, slot: object) -> torch.Tensor:
        own.graphs.decode = decode  # type: ignore[method-assign]  # once only
        message = f"broken: {token} {position} {slot}"
        raise RuntimeError(message)

    own.graphs.decode = broken  # type: ignore[method-assign,assignment]  # a fault that is put in
    doomed: Future[Generation] = _ask(batcher, _body("and", max_new_tokens=5))
    with pytest.raises(RuntimeError, match="broken"):
        doomed.result(60)
    assert len(_tokens(_ask(batcher, _body("and", max_new_tokens=5)).result(60))) == 5


@pytest.mark.parametrize(
    ("tokens", "positions", "says"),
    [
        ([1, 2], [0, 0], "2 tokens and 2 positions: a step takes 3"),
        ([1, 2, 3], [0, 0, 128], "position 128"),
        ([1, 2, 300], [0, 0, 1], "token id 300"),
    ],
)
def test_a_step_refuses_what_the_library_would_take_silently(
    service: Service, tokens: list[int], positions: list[int], says: str
) -> None:
    with pytest.raises(LimitExceeded, match=says):
        service.graphs.step(tokens, positions)
    with pytest.raises(LimitExceeded, match=r"slot 3 is outside 0\.\.2"):
        service.graphs.prefill(torch.tensor([1]), torch.tensor([0]), 3)


def test_the_package_is_async_answers_callers_together_and_streams(
    built_for_three: SimpleNamespace,
) -> None:
    tree = built_for_three.package
    assert "option.async_mode=true" in (tree / "serving.properties").read_text(encoding="utf-8")
    assert not [problem for rule in RULES.values() for problem in rule(tree)]
    bodies = [_body(text, max_new_tokens=6).decode() for text in ("and", "the", "a", "is", "of")]
    streamed = json.dumps({**json.loads(bodies[0]), "stream": True})
    ended = subprocess.run(
        [sys.executable, str(WORKER), str(tree)],
        input=json.dumps([*bodies, "{", None, streamed]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    report = json.loads(ended.stdout)
    assert [output["code"] for output in report["outputs"]] == [204, *[200] * 5, 400, 400, 200]
    assert "not JSON" in report["outputs"][6]["body"]
    assert not report["torch_imported_before_the_first_request"]
    own = Service(tree)
    for body, output in zip(bodies, report["outputs"][1:6], strict=True):
        alone = own.reply(body.encode(), "application/json")
        assert _told(json.loads(output["body"])["details"]) == _told(alone["details"])
    lines = report["outputs"][8]["body"].splitlines()
    assert report["outputs"][8]["properties"] == {"content-type": "application/jsonlines"}
    first = json.loads(report["outputs"][1]["body"])
    tokens = [json.loads(line)["token"] for line in lines]
    assert [token["id"] for token in tokens] == _told(first["details"])
    assert json.loads(lines[-1])["generated_text"] == first["generated_text"]
    assert "generated_text" not in json.loads(lines[0])


def _told(details: dict[str, Any]) -> list[int]:
    return [token["id"] for token in details["tokens"]]


def test_a_listener_hears_each_token_once_and_the_end_with_the_last(batcher: Batcher) -> None:
    heard: list[tuple[Token, Generation | None]] = []
    request = batcher.service.read(_body("and", max_new_tokens=7))
    done = batcher.submit(*request, lambda token, whole: heard.append((token, whole))).result(60)
    assert [token for token, _ in heard] == done.tokens
    assert [whole for _, whole in heard[:-1]] == [None] * (len(heard) - 1)
    assert heard[-1][1] is done


def test_a_repetition_penalty_is_the_models_own(
    built_for_three: SimpleNamespace, service: Service, batcher: Batcher
) -> None:
    model = AutoModelForCausalLM.from_pretrained(built_for_three.model).eval()
    prompt = service.tokenizer.encode("and the thing").ids
    whole = model.generate(
        torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=1.7
    )[0]
    asked = _body("and the thing", max_new_tokens=20, repetition_penalty=1.7)
    plain = _body("and the thing", max_new_tokens=20)
    found = _tokens(_ask(batcher, asked).result(60))
    assert found == whole[len(prompt) :].tolist()
    assert found != _tokens(_ask(batcher, plain).result(60))
