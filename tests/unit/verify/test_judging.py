"""The judge step on real outputs: what is right is accepted, what is wrong is not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lmi_verify import judging
from lmi_verify.errors import GateInvalid
from lmi_verify.verdict import Verdict

Arrays = dict[str, np.ndarray]
Judge = Callable[..., Verdict]
Candidate = Callable[..., Path]


def logits_of(arrays: Arrays) -> list[str]:
    return [name for name in arrays if name.endswith("_logits")]


def test_the_same_model_without_a_cache_is_accepted_with_its_true_error(
    judge: Judge, recomputed: Candidate, model_dir: Path
) -> None:
    verdict = judge(recomputed(model_dir))
    assert verdict.decision == "ACCEPT", verdict.summary
    by_metric = {check.metric: check for check in verdict.checks}
    assert 0 < (by_metric["logit_error_rel"].measured or 0) < 1e-5
    assert {check.passed for check in verdict.checks} == {True}
    assert verdict.measurements is not None
    assert len(verdict.measurements.prompts) == 6


def test_the_reference_itself_is_accepted_in_float32(judge: Judge, reference_dir: Path) -> None:
    assert judge(reference_dir).decision == "ACCEPT"


def test_bfloat16_is_refused_where_float32_was_asked(
    judge: Judge, recomputed: Candidate, model_dir: Path
) -> None:
    verdict = judge(recomputed(model_dir, torch.bfloat16))
    assert verdict.decision == "REGRESSION"
    failed = {check.metric for check in verdict.checks if not check.passed}
    assert {"logit_error_rel", "kl_max"} <= failed


def test_another_models_weights_are_refused(
    judge: Judge, recomputed: Candidate, make_tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_tiny_llama(tmp_path / "other", seed=1)
    verdict = judge(recomputed(other))
    assert verdict.decision == "REGRESSION"
    quality = {"logit_error_rel", "top1_margin", "greedy_margin", "kl_max"}
    assert not any(check.passed for check in verdict.checks if check.metric in quality)


def scaled(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name] = arrays[name] * np.float32(1.001)


def swapped_token(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name][:, [40, 41]] = arrays[name][:, [41, 40]]


def off_by_one_row(arrays: Arrays) -> None:
    arrays["005.prompt_logits"] = np.roll(arrays["005.prompt_logits"], 1, axis=0)


def one_decoded_row(arrays: Arrays) -> None:
    arrays["001.forced_logits"][63] += np.float32(0.01) * np.arange(300, dtype=np.float32)


@pytest.mark.parametrize("fault", [scaled, swapped_token, off_by_one_row, one_decoded_row])
def test_wrong_logits_are_a_regression(
    judge: Judge, edited: Candidate, fault: Callable[[Arrays], None]
) -> None:
    verdict = judge(edited(fault))
    assert verdict.decision == "REGRESSION"
    assert "logit_error_rel" in {check.metric for check in verdict.checks if not check.passed}


def test_the_verdict_names_the_worst_prompt(judge: Judge, edited: Candidate) -> None:
    verdict = judge(edited(off_by_one_row))
    by_metric = {check.metric: check for check in verdict.checks}
    assert by_metric["logit_error_rel"].prompt == "latin-long"
    assert "latin-long" in verdict.summary


def nan(arrays: Arrays) -> None:
    arrays["002.prompt_logits"][3, 7] = np.nan


def infinite(arrays: Arrays) -> None:
    arrays["002.forced_logits"][5] = np.inf


def all_nan(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name][:] = np.nan


def same_row_everywhere(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name][:] = arrays[name][0]


def decode_ignores_its_input(arrays: Arrays) -> None:
    arrays["004.forced_logits"][1:] = arrays["004.forced_logits"][1]


def flat_logits(arrays: Arrays) -> None:
    arrays["000.forced_logits"][2] = np.float32(0.25)


@pytest.mark.parametrize(
    "fault",
    [nan, infinite, all_nan, same_row_everywhere, decode_ignores_its_input, flat_logits],
)
def test_impossible_logits_are_anomalous(
    judge: Judge, edited: Candidate, fault: Callable[[Arrays], None]
) -> None:
    verdict = judge(edited(fault))
    assert verdict.decision == "ANOMALOUS"
    assert verdict.findings


def test_bits_of_the_reference_are_anomalous_where_precision_is_lower(
    judge: Judge, reference_dir: Path
) -> None:
    verdict = judge(reference_dir, dtype="float16", method="fp8")
    assert verdict.decision == "ANOMALOUS"
    assert "bit for bit" in verdict.summary


def test_a_dtype_without_a_sourced_gate_stays_unverified(
    judge: Judge, recomputed: Candidate, model_dir: Path
) -> None:
    candidate = recomputed(model_dir, torch.bfloat16)
    verdict = judge(candidate, dtype="bfloat16", method="int8_wo")
    assert verdict.decision == "UNVERIFIED"
    assert verdict.measurements is not None
    assert verdict.measurements.overall("kl_mean").value is not None
    own = judge(candidate, dtype="bfloat16", method="int8_wo", gates={"kl_mean": 0.05})
    assert own.decision == "ACCEPT"
    assert own.checks[0].loosened


def test_a_loosened_gate_is_applied_and_recorded(judge: Judge, edited: Candidate) -> None:
    candidate = edited(scaled)
    loose = {"logit_error_rel": 0.01, "kl_max": 0.01, "top1_margin": 0.01, "greedy_margin": 1e-5}
    verdict = judge(candidate, gates=loose)
    assert verdict.decision == "ACCEPT"
    loosened = {check.metric for check in verdict.checks if check.loosened}
    assert loosened == {"logit_error_rel", "kl_max", "top1_margin"}
    assert "loosened by the recipe: logit_error_rel" in verdict.summary
    assert any("loosened by the recipe" in row for row in verdict.table_rows())


def test_an_unknown_gate_is_the_recipes_fault(judge: Judge, reference_dir: Path) -> None:
    with pytest.raises(GateInvalid, match="the nearest is kl_max"):
        judge(reference_dir, gates={"kl_maxx": 1.0})


def near_tie(gap: float) -> tuple[Callable[[Arrays], None], Callable[[Arrays], None]]:
    """Edits that leave the reference undecided by `gap` of max |logit| at token 10.

    The second edit also lets the candidate take the other token there.
    """

    def tie(arrays: Arrays) -> None:
        parts = (arrays["001.prompt_logits"], arrays["001.forced_logits"])
        scale = max(float(np.abs(part).max()) for part in parts)
        row = arrays["001.forced_logits"][10]
        best = int(row.argmax())
        row[(best + 1) % 300] = row[best] - np.float32(gap * scale)

    def other_token(arrays: Arrays) -> None:
        tie(arrays)
        ids = arrays["001.generated_ids"]
        ids[10:] = (ids[10] + 1) % 300
        row = arrays["001.forced_logits"][10].astype(np.float64)
        told = row[ids[10]] - np.log(np.exp(row).sum())
        arrays["001.generated_log_probs"][10:] = told

    return tie, other_token


@pytest.mark.parametrize(("gap", "decision"), [(5e-5, "ACCEPT"), (2e-4, "REGRESSION")])
def test_greedy_text_may_differ_only_where_the_reference_is_undecided(
    judge: Judge, edited: Candidate, gap: float, decision: str
) -> None:
    tie, other_token = near_tie(gap)
    verdict = judge(edited(other_token, name="built"), against=edited(tie, name="right"))
    assert verdict.decision == decision, verdict.summary
    assert verdict.measurements is not None
    divergence = verdict.measurements.prompts[1].divergence
    assert divergence is not None
    assert divergence.index == 10
    assert divergence.gap == pytest.approx(gap, rel=0.02)
    failed = [check.metric for check in verdict.checks if not check.passed]
    assert failed == ([] if decision == "ACCEPT" else ["greedy_margin"])


def test_a_continuation_cut_short_is_a_regression(judge: Judge, edited: Candidate) -> None:
    def cut(arrays: Arrays) -> None:
        for part in ("ids", "log_probs"):
            arrays[f"003.generated_{part}"] = arrays[f"003.generated_{part}"][:-1]

    verdict = judge(edited(cut))
    assert verdict.decision == "REGRESSION"
    assert [check.metric for check in verdict.checks if not check.passed] == ["stop_errors"]


def truncated(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda out: truncated(out / "outputs.safetensors"), "outputs.safetensors"),
        (lambda out: truncated(out / "outputs.json"), "outputs.json"),
        (lambda out: (out / "outputs.safetensors").unlink(), "missing"),
        (lambda out: (out / "outputs.json").unlink(), "missing"),
        (lambda out: (out / "outputs.json").write_text("[]"), "an object"),
        (lambda out: (out / "outputs.json").write_text('{"format": 3}'), "format 3"),
        (lambda out: (out / "outputs.json").write_text("[" * 100_000), "nested too deeply"),
    ],
)
def test_broken_files_are_infeasible(
    judge: Judge, edited: Candidate, damage: Callable[[Path], object], word: str
) -> None:
    candidate = edited()
    damage(candidate)
    verdict = judge(candidate)
    assert verdict.decision == "INFEASIBLE"
    assert word in verdict.summary
    assert str(candidate.parent) not in json.dumps(verdict.to_json())


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"prompts_digest": "sha256:00"}, "other prompts"),
        ({"vocab_size": 299}, "vocabulary of 299, not 300"),
        ({"prompts": []}, "prompts"),
        ({"vocab_size": "300"}, "a whole number"),
    ],
)
def test_answers_to_another_question_are_infeasible(
    judge: Judge, edited: Candidate, header: dict[str, object], word: str
) -> None:
    verdict = judge(edited(header=lambda content: content.update(header)))
    assert verdict.decision == "INFEASIBLE"
    assert word in verdict.summary


def fewer_rows(arrays: Arrays) -> None:
    arrays["002.forced_logits"] = arrays["002.forced_logits"][:-1]


def narrower(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name] = arrays[name][:, :-1]


def half_precision(arrays: Arrays) -> None:
    for name in logits_of(arrays):
        arrays[name] = arrays[name].astype(np.float16)


def no_prompt_logits(arrays: Arrays) -> None:
    del arrays["001.prompt_logits"]


def no_ids(arrays: Arrays) -> None:
    arrays["001.generated_ids"] = np.zeros(0, dtype=np.int64)


def too_many_ids(arrays: Arrays) -> None:
    arrays["001.generated_ids"] = np.zeros(65, dtype=np.int64)


def ids_outside(arrays: Arrays) -> None:
    arrays["001.generated_ids"][0] = 300


@pytest.mark.parametrize(
    "fault",
    [fewer_rows, narrower, half_precision, no_prompt_logits, no_ids, too_many_ids, ids_outside],
)
def test_tensors_of_another_shape_are_infeasible(
    judge: Judge, edited: Candidate, fault: Callable[[Arrays], None]
) -> None:
    assert judge(edited(fault)).decision == "INFEASIBLE"


def test_a_reference_with_nan_is_no_reference(
    judge: Judge, edited: Candidate, reference_dir: Path
) -> None:
    verdict = judge(reference_dir, against=edited(nan))
    assert verdict.decision == "INFEASIBLE"
    assert "the reference of prompt chat" in verdict.summary


def test_a_reference_of_other_tokens_is_infeasible(
    judge: Judge, edited: Candidate, reference_dir: Path
) -> None:
    other = edited()
    content = json.loads((other / "prompts.json").read_text())
    content["eos_token_ids"] = [7]
    (other / "prompts.json").write_text(json.dumps(content))
    assert judge(reference_dir, against=other).decision == "INFEASIBLE"


def test_the_step_writes_one_file_without_paths_or_times(
    reference_dir: Path, tmp_path: Path
) -> None:
    written = []
    for name in ("a", "b"):
        out = tmp_path / name
        out.mkdir()
        judging.run(
            {"dtype": "float32", "method": "none", "gates": {}, "shows": []},
            {"reference": reference_dir, "candidate": reference_dir},
            out,
        )
        assert [path.name for path in out.iterdir()] == ["verdict.json"]
        written.append((out / "verdict.json").read_bytes())
    assert written[0] == written[1]
    assert str(tmp_path).encode() not in written[0]
