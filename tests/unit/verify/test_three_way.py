"""Prompt set v2: what a candidate says of itself, the baseline, and the noise of a difference."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lmi_verify import baseline, judging, reference
from lmi_verify.baseline import score
from lmi_verify.consistency import draws_off
from lmi_verify.eager import Eager
from lmi_verify.huggingface import load
from lmi_verify.measurements import PromptMeasurement
from lmi_verify.prompts import load_prompts, rows_of
from lmi_verify.statistics import block_interval, share_intervals
from lmi_verify.verdict import Verdict, parse

Arrays = dict[str, np.ndarray]
SHOWS = ["batch", "likelihoods", "log_probs", "sampling", "settings", "tokenizer"]
AGAIN = f"{load_prompts('v2').index('latin-short-again'):03d}"
OPEN = f"{load_prompts('v2').index('open'):03d}"


@pytest.fixture(scope="module")
def asked(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference on prompt set v2."""
    out = tmp_path_factory.mktemp("reference2")
    params = {
        "prompts": "v2",
        "prompts_digest": load_prompts("v2").digest,
        "max_input_len": 96,
        "max_seq_len": 160,
        "forced_tokens": 64,
        "trust_remote_code": False,
    }
    reference.run(params, {"model": model_dir}, out)
    return out


@pytest.fixture
def changed(asked: Path, edited: Callable[..., Path]) -> Callable[..., Path]:
    """A candidate: the reference's own outputs with something changed."""

    def make(
        tensors: Callable[[Arrays], object] = lambda arrays: arrays,
        header: Callable[[dict[str, object]], object] | None = None,
    ) -> Path:
        return edited(tensors, header, source=asked)

    return make


@pytest.fixture
def judged(asked: Path, tmp_path: Path) -> Callable[..., Verdict]:
    def run(candidate: Path, base: Path | None = None, **params: object) -> Verdict:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        given = {"dtype": "float32", "method": "none", "gates": {}, "shows": SHOWS, **params}
        inputs = {"reference": asked, "candidate": candidate}
        judging.run(given, inputs | ({"baseline": base} if base else {}), out)
        return parse((out / "verdict.json").read_bytes())

    return run


def failed(verdict: Verdict) -> set[str]:
    return {check.metric for check in verdict.checks if not check.passed}


def test_the_reference_shows_every_part_and_passes(
    asked: Path, judged: Callable[..., Verdict]
) -> None:
    verdict = judged(asked)
    assert verdict.decision == "ACCEPT", verdict.summary
    assert verdict.unmeasured == ()
    assert verdict.measurements is not None
    assert list(verdict.measurements.shown) == SHOWS
    sides = verdict.measurements.perplexity
    assert sides["reference"] == sides["candidate"] > 1
    prompt = verdict.measurements.prompts[1]
    assert len(prompt.series["kl"]) == prompt.rows == len(prompt.series["position"])
    assert len(prompt.reference_pieces) == 64


def leaked(arrays: Arrays) -> None:
    arrays[f"{AGAIN}.forced_logits"][3] += np.linspace(0, 0.02, 300, dtype=np.float32)


def neighbour(arrays: Arrays) -> None:
    arrays["001.batch_logits"][2] += np.linspace(0, 0.02, 300, dtype=np.float32)


def told_twice_as_warm(arrays: Arrays) -> None:
    arrays["001.generated_log_probs"] = arrays["001.generated_log_probs"] / 0.6


def drawn_twice_as_warm(arrays: Arrays) -> None:
    row = torch.from_numpy(arrays[f"{OPEN}.forced_logits"][0]).double()
    chances = torch.softmax(row / 0.6**2, 0)
    seeds = range(len(arrays["sampling.ids"]))
    drawn = [
        int(torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(seed)))
        for seed in seeds
    ]
    arrays["sampling.ids"] = np.array(drawn, dtype=np.int64)


def other_tokens(arrays: Arrays) -> None:
    arrays["003.text_ids"] = np.roll(arrays["003.text_ids"], 1)


def not_its_best(arrays: Arrays) -> None:
    ids = arrays["001.generated_ids"]
    ids[5:] = (ids[5] + 1) % 300


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        (leaked, "repeat_error_rel"),
        (told_twice_as_warm, "log_prob_error"),
        (drawn_twice_as_warm, "draws_off"),
        (other_tokens, "token_mismatches"),
        (not_its_best, "choice_margin"),
    ],
)
def test_a_candidate_is_held_to_what_it_says_of_itself(
    changed: Callable[..., Path],
    judged: Callable[..., Verdict],
    fault: Callable[[Arrays], object],
    metric: str,
) -> None:
    verdict = judged(changed(fault))
    assert verdict.decision == "REGRESSION"
    assert metric in failed(verdict)


def test_a_neighbour_in_the_batch_is_measured(
    changed: Callable[..., Path], judged: Callable[..., Verdict]
) -> None:
    verdict = judged(changed(neighbour), gates={"batch_error_rel": 1e-4})
    assert "batch_error_rel" in failed(verdict)


def test_other_end_tokens_are_a_regression(
    changed: Callable[..., Path], judged: Callable[..., Verdict]
) -> None:
    candidate = changed(header=lambda content: content.update(eos_token_ids=[1, 7]))
    assert failed(judged(candidate)) == {"settings_errors"}


@pytest.mark.parametrize("part", ["001.batch_logits", "sampling.ids", "001.generated_log_probs"])
def test_a_part_that_the_build_should_show_and_does_not_is_infeasible(
    changed: Callable[..., Path], judged: Callable[..., Verdict], part: str
) -> None:
    def drop(arrays: Arrays) -> None:
        kind = part.partition(".")[2] if part[0].isdigit() else part
        for name in [name for name in arrays if name.endswith(kind)]:
            del arrays[name]

    candidate = changed(drop)
    assert judged(candidate).decision == "INFEASIBLE"
    assert judged(candidate, shows=[]).decision == "ACCEPT"


def test_a_damaged_golden_file_is_noticed_on_read(
    asked: Path, tmp_path: Path, judged: Callable[..., Verdict]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in asked.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    raw = bytearray((damaged / "outputs.safetensors").read_bytes())
    raw[-3] ^= 1
    (damaged / "outputs.safetensors").write_bytes(raw)
    verdict = judged(damaged)
    assert verdict.decision == "INFEASIBLE"
    assert "not what outputs.json names" in verdict.summary


def test_right_draws_stay_within_the_noise_and_twice_the_temperature_does_not() -> None:
    row = np.random.default_rng(1).normal(0, 3, 400).astype(np.float32)
    likely = torch.softmax(torch.from_numpy(row).double() / 0.6, 0)
    wrong = torch.softmax(torch.from_numpy(row).double() / 0.36, 0)
    generator = torch.Generator().manual_seed(0)
    for chances, right in ((likely, True), (wrong, False)):
        drawn = torch.multinomial(chances, 256, replacement=True, generator=generator).tolist()
        assert (draws_off(row, 0.6, drawn) <= 5) is right


def baseline_of(model: Path, asked: Path, out: Path, **params: object) -> Path:
    out.mkdir()
    given = {"dtype": "float32", "rounding": "none", "trust_remote_code": False, **params}
    baseline.run(given, {"model": model, "reference": asked}, out)
    return out


def eight_bits(model: Path, asked: Path, out: Path, spoil: float = 1.0) -> Path:
    """An honest 8-bit candidate's logits, its scales off by a factor."""
    loaded = load(model, trust_remote_code=False)
    baseline.round_rows(loaded.model)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(spoil)
    out.mkdir()
    score(Eager(loaded), asked, out)
    return out


@pytest.mark.parametrize(("spoil", "caught"), [(1.0, False), (1.02, True)])
def test_a_scale_off_by_two_percent_shows_against_the_baseline(
    model_dir: Path,
    asked: Path,
    tmp_path: Path,
    changed: Callable[..., Path],
    judged: Callable[..., Verdict],
    spoil: float,
    *,
    caught: bool,
) -> None:
    base = baseline_of(model_dir, asked, tmp_path / "base", rounding="int8-rows")
    scores = load_file(
        eight_bits(model_dir, asked, tmp_path / "scores", spoil) / "outputs.safetensors"
    )

    def put(arrays: Arrays) -> None:
        arrays.update(scores)

    verdict = judged(changed(put), base, method="int8_wo", shows=["likelihoods"])
    near = {"baseline_kl_mean", "baseline_error_rel", "baseline_slope_error"}
    assert bool(failed(verdict) & near) is caught
    assert verdict.measurements is not None
    assert verdict.measurements.overall("method_kl_mean").value


def test_outputs_nearer_than_the_method_allows_are_anomalous(
    model_dir: Path,
    asked: Path,
    tmp_path: Path,
    changed: Callable[..., Path],
    judged: Callable[..., Verdict],
) -> None:
    base = baseline_of(model_dir, asked, tmp_path / "base", rounding="int8-rows")

    def almost(arrays: Arrays) -> None:
        for name in arrays:
            if name.endswith("_logits"):
                arrays[name] = arrays[name] * np.float32(1 + 1e-6)

    verdict = judged(changed(almost), base, method="int8_wo")
    assert verdict.decision == "ANOMALOUS"
    assert "not outputs of that method" in verdict.summary


def test_an_interval_is_the_same_every_time_and_covers_noise() -> None:
    noise = [np.random.default_rng(seed).normal(0, 1, 200) for seed in range(4)]
    low, high = block_interval(noise)
    assert (low, high) == block_interval(noise)
    assert low < 0 < high
    shifted = [each + 0.5 for each in noise]
    assert block_interval(shifted)[0] > 0.2


def test_agreement_breaks_a_limit_beyond_the_noise_of_its_rows() -> None:
    """Wilson's interval of 81 of 100 is 0.7222 to 0.8749 (by hand)."""

    def prompt(rows: int, share: float | None) -> PromptMeasurement:
        return PromptMeasurement(
            id="a", rows=rows, values={"top1_agreement": share}, divergence=None,
            nonfinite_rows=0, flat_rows=0, frozen=False, identical_rows=0,
        )  # fmt: skip

    found = share_intervals([prompt(60, 0.9), prompt(40, 0.675)])
    assert found["top1_agreement"] == pytest.approx((0.7222, 0.8749), abs=1e-4)
    assert share_intervals([prompt(60, 0.9), prompt(40, None)]) == {}


@pytest.mark.parametrize("length", [1, 5, 24, 25, 96, 384])
def test_rows_are_ascending_and_end_with_the_last_position(length: int) -> None:
    rows = rows_of(length, 24)
    assert list(rows) == sorted(set(rows))
    assert rows[-1] == length - 1
    assert len(rows) == min(length, 24)


def test_the_corpus_has_its_sources(request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath / "verify" / "lmi_verify" / "data" / "prompts"
    told = (root / "SOURCES.md").read_text(encoding="utf-8")
    prompts = load_prompts("v2").prompts
    foreign = {"corpus-carroll", "corpus-darwin"}
    assert foreign <= {prompt.id for prompt in prompts if prompt.corpus}
    assert all(f"`{name}`" in told for name in foreign)


def test_a_verdict_is_what_its_published_schema_says(
    asked: Path, judged: Callable[..., Verdict], tmp_path: Path
) -> None:
    import jsonschema  # noqa: PLC0415 - only here

    from lmi_verify.verdict import verdict_schema_text  # noqa: PLC0415 - beside it

    schema: Mapping[str, object] = json.loads(verdict_schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    judged(asked)
    written = json.loads((tmp_path / "out" / "verdict.json").read_text())
    jsonschema.validate(written, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "decision": "FINE"}, schema)
