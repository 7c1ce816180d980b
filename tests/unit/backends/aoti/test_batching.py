"""Several requests at once: each gets the tokens that it would get alone."""

import json
import subprocess
import sys
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from lmi_artifacts.container import check_djl_python
from lmi_compile.backends.aoti.runtime.batching import Batcher
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


def _tokens(answer: dict[str, Any]) -> list[int]:
    return [token["id"] for token in answer["details"]["tokens"]]


def test_greedy_is_the_models_own_continuation(
    built_for_three: SimpleNamespace, service: Service, batcher: Batcher
) -> None:
    model = AutoModelForCausalLM.from_pretrained(built_for_three.model).eval()
    texts = ["and the thing", "a", "the thing is of the thing and the thing", "7 of 7", "is"]
    promises = [batcher.submit(_body(text, max_new_tokens=9)) for text in texts]
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
    promises = [batcher.submit(body) for body in bodies]
    together = [promise.result(60) for promise in promises]
    alone = [batcher.submit(body).result(60) for body in bodies]
    assert [_tokens(answer) for answer in together] == [_tokens(answer) for answer in alone]
    for one, other in zip(together, alone, strict=True):
        for token, same in zip(one["details"]["tokens"], other["details"]["tokens"], strict=True):
            assert token["log_prob"] == pytest.approx(same["log_prob"], abs=1e-4)


def test_every_slot_is_used_to_the_last_position(
    service: Service, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "eos_token_ids", frozenset())
    text = " the thing" * 8
    room = service.graphs.max_seq_len - len(service.tokenizer.encode(text).ids)
    promises = [batcher.submit(_body(text, max_new_tokens=room)) for _ in range(4)]
    answers = [_tokens(promise.result(120)) for promise in promises]
    assert all(len(answer) == room for answer in answers)
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(BadRequest, match="together more than this model's 128"):
        batcher.submit(_body(text, max_new_tokens=room + 1))


def test_a_cancelled_request_frees_its_slot(batcher: Batcher) -> None:
    promises = [batcher.submit(_body("and", max_new_tokens=120)) for _ in range(6)]
    assert all(promise.cancel() for promise in promises)
    with pytest.raises(CancelledError):
        promises[0].result(5)
    assert len(_tokens(batcher.submit(_body("and", max_new_tokens=3)).result(60))) == 3


def test_what_breaks_a_step_breaks_its_requests_and_nothing_after_them(
    built_for_three: SimpleNamespace,
) -> None:
    own = Service(built_for_three.package)
    batcher, step = Batcher(own), own.graphs.step

    def broken(tokens: object, positions: object) -> torch.Tensor:
        own.graphs.step = step  # type: ignore[method-assign]  # once only
        message = f"broken: {tokens} {positions}"
        raise RuntimeError(message)

    own.graphs.step = broken  # type: ignore[method-assign,assignment]  # a fault that is put in
    doomed: Future[dict[str, Any]] = batcher.submit(_body("and", max_new_tokens=5))
    with pytest.raises(RuntimeError, match="broken"):
        doomed.result(60)
    assert len(_tokens(batcher.submit(_body("and", max_new_tokens=5)).result(60))) == 5


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


def test_the_package_is_async_and_answers_callers_together(
    built_for_three: SimpleNamespace,
) -> None:
    tree = built_for_three.package
    assert "option.async_mode=true" in (tree / "serving.properties").read_text(encoding="utf-8")
    assert list(check_djl_python(tree)) == []
    bodies = [_body(text, max_new_tokens=6).decode() for text in ("and", "the", "a", "is", "of")]
    ended = subprocess.run(
        [sys.executable, str(WORKER), str(tree)],
        input=json.dumps([*bodies, "{", None]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    report = json.loads(ended.stdout)
    assert [output["code"] for output in report["outputs"]] == [204, *[200] * 5, 400, 400]
    assert "not JSON" in report["outputs"][6]["body"]
    assert not report["torch_imported_before_the_first_request"]
    own = Service(tree)
    for body, output in zip(bodies, report["outputs"][1:6], strict=True):
        assert _tokens(json.loads(output["body"])) == _tokens(own.answer(body.encode()))
