"""The judge of one-pass models: what is right passes, and each kind of wrong is called that."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmi_verify.one_pass import judging
from lmi_verify.one_pass.heads import TASKS, head_of
from lmi_verify.verdict import from_json

_DIGEST = "sha256:" + "0" * 64
Tensors = dict[str, Any]
Judge = Callable[..., dict[str, Any]]


def _right() -> tuple[Tensors, Tensors]:
    """What two texts of five and three tokens give, and what was asked."""
    made = np.random.default_rng(1)
    outputs: Tensors = {
        "000.output": made.normal(size=(5, 7)).astype(np.float32),
        "001.output": made.normal(size=(3, 7)).astype(np.float32),
    }
    asked: Tensors = {"000.input_ids": np.arange(5), "001.input_ids": np.arange(3)}
    return asked, outputs


def _built(asked: Tensors, outputs: Tensors) -> Tensors:
    return {
        **outputs,
        **{f"{name[:4]}company": value for name, value in outputs.items() if "output" in name},
        **{f"{name[:4]}text_ids": value for name, value in asked.items()},
    }


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def judged(change: Callable[[Tensors], object], **params: Any) -> dict[str, Any]:
        reference, candidate = tmp_path / "reference", tmp_path / "candidate"
        for folder in (reference, candidate):
            folder.mkdir(exist_ok=True)
        asked, outputs = _right()
        outputs |= params.pop("more", {})
        built = {name: value.copy() for name, value in _built(asked, outputs).items()}
        change(built)
        save_file(asked, reference / "prompts.safetensors")
        save_file(outputs, reference / "outputs.safetensors")
        save_file(built, candidate / "outputs.safetensors")
        listed = [{"id": "five"}, {"id": "three"}]
        head = params.pop("head", "mask")
        prompts = {"format": 1, "head": head, "digest": _DIGEST, "prompts": listed}
        (reference / "prompts.json").write_text(json.dumps(prompts))
        told = {"format": 1, "prompts_digest": params.pop("digest", _DIGEST)}
        (candidate / "outputs.json").write_text(json.dumps(told))
        given = {"dtype": "float32", "gates": {}, "company": True, **params}
        judging.run(given, {"reference": reference, "candidate": candidate}, tmp_path)
        found: dict[str, Any] = json.loads((tmp_path / "verdict.json").read_bytes())
        assert from_json(found).scope == "outputs"
        return found

    return judged


def _off(name: str, much: float) -> Callable[[Tensors], object]:
    def change(built: Tensors) -> None:
        built[name][0] += much

    return change


def _set(name: str, value: Any) -> Callable[[Tensors], object]:
    return lambda built: built.__setitem__(name, value)


def test_equal_outputs_are_accepted(judge: Judge) -> None:
    found = judge(lambda _: None)
    assert found["decision"] == "ACCEPT"
    measured = {check["metric"]: check["measured"] for check in found["checks"]}
    assert set(measured) == {
        "output_error_rel", "kl_max", "top1_margin", "batch_error_rel", "token_mismatches",
    }  # fmt: skip
    assert set(measured.values()) == {0}


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        (_off("000.output", 0.01), "output_error_rel"),
        (_off("001.company", 0.01), "batch_error_rel"),
        (_set("001.text_ids", np.arange(1, 4)), "token_mismatches"),
    ],
)
def test_each_kind_of_wrong_fails_its_own_gate(
    judge: Judge, change: Callable[[Tensors], object], metric: str
) -> None:
    found = judge(change)
    assert found["decision"] == "REGRESSION"
    assert metric in {check["metric"] for check in found["checks"] if not check["passed"]}


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        (lambda built: built.pop("001.output"), "INFEASIBLE"),
        (lambda built: built.pop("000.company"), "INFEASIBLE"),
        (lambda built: built.pop("000.text_ids"), "INFEASIBLE"),
        (_set("000.output", np.zeros((4, 7), np.float32)), "INFEASIBLE"),
        (_off("000.output", np.nan), "ANOMALOUS"),
        (_set("000.output", np.ones((5, 7), np.float32)), "ANOMALOUS"),
    ],
)
def test_what_cannot_be_compared_or_cannot_be_right_is_said(
    judge: Judge, change: Callable[[Tensors], object], decision: str
) -> None:
    assert judge(change)["decision"] == decision


@pytest.mark.parametrize("name", ["000.company", "001.company", "001.embedding"])
def test_nan_beside_right_outputs_is_no_pass(judge: Judge, name: str) -> None:
    vectors: Tensors = {f"00{index}.embedding": np.ones(7, np.float32) for index in (0, 1)}
    assert judge(lambda _: None, head="embedding", more=vectors)["decision"] == "ACCEPT"
    found = judge(_off(name, np.nan), head="embedding", more=vectors)
    assert found["decision"] == "REGRESSION"
    (failed,) = (check for check in found["checks"] if not check["passed"])
    assert failed["measured"] is None


def test_outputs_of_other_examples_are_not_compared(judge: Judge) -> None:
    found = judge(lambda _: None, digest="sha256:" + "1" * 64)
    assert found["decision"] == "INFEASIBLE"
    assert "other examples" in found["summary"]


def test_a_loosened_gate_is_recorded(judge: Judge) -> None:
    own = {"output_error_rel": 0.5, "kl_max": 1.0, "batch_error_rel": 0.5, "top1_margin": 1.0}
    found = judge(_off("000.output", 0.01), gates=own)
    loosened = {check["metric"] for check in found["checks"] if check["loosened"]}
    assert (found["decision"], loosened) == ("ACCEPT", set(own))


def test_a_dtype_without_a_gate_is_unverified(judge: Judge) -> None:
    assert judge(lambda _: None, dtype="bfloat16")["decision"] == "UNVERIFIED"


def test_every_task_but_generation_has_its_head() -> None:
    heads = {task: head_of(task, {}) for task in (*TASKS, "text-generation")}
    assert heads.pop("text-generation") is None
    assert len({head.name for head in heads.values() if head}) == len(TASKS)
    electra = head_of("feature-extraction", {"architectures": ["ElectraForPreTraining"]})
    assert electra is not None
    assert electra.name == "replaced"
