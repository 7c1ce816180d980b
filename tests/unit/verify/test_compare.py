"""The measurements, against straightforward formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmi_verify import rows
from lmi_verify.compare import Side, find_divergence, measure_prompt
from lmi_verify.consistency import ends_rightly
from lmi_verify.measurements import METRICS, PromptMeasurement
from lmi_verify.outputs import Arrays, Generated, PromptTokens
from lmi_verify.rows import is_frozen

PROMPT = PromptTokens(id="p", input_ids=(1, 0, 1), forced_ids=(0, 1), rows=(0, 1, 2))


def noise(seed: int, shape: tuple[int, int], scale: float = 5.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def side(logits: np.ndarray, *ids: int) -> Side:
    """Five rows and a continuation."""
    return Side(
        arrays=Arrays(prompt_logits=logits[:3], forced_logits=logits[3:]),
        generated=Generated(ids=ids, finish_reason="length"),
    )


def measured(reference: np.ndarray, candidate: np.ndarray) -> PromptMeasurement:
    """Of five rows: three of a prompt, two of its continuation."""
    return measure_prompt(
        PROMPT,
        eos_token_ids=(9,),
        reference=side(reference, 0, 1),
        candidate=side(candidate, 0, 1),
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), error=st.floats(1e-6, 2.0), vocab=st.integers(2, 1500))
def test_values_equal_the_plain_formulas(seed: int, error: float, vocab: int) -> None:
    reference = noise(seed, (5, vocab))
    candidate = reference + noise(seed + 1, (5, vocab), error)
    found = measured(reference, candidate).values
    ours, theirs = reference.astype(np.float64), candidate.astype(np.float64)
    gap = np.abs(ours - theirs)
    scale = np.abs(ours).max()
    p = np.exp(ours) / np.exp(ours).sum(axis=1, keepdims=True)
    q = np.exp(theirs) / np.exp(theirs).sum(axis=1, keepdims=True)
    kl = (p * np.log(p / q)).sum(axis=1)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    lost = ours.max(axis=1) - ours[np.arange(5), theirs.argmax(axis=1)]
    expected = {
        "logit_error": gap.max(),
        "logit_error_rel": gap.max() / scale,
        "logit_error_rel_prefill": gap[:3].max() / scale,
        "logit_error_rel_decode": gap[3:].max() / scale,
        "kl_mean": kl.mean(),
        "kl_max": kl.max(),
        "top1_agreement": same.mean(),
        "top1_margin": lost.max() / scale,
        "topk_error_all": (gap.max(axis=1) / np.abs(ours).max(axis=1)).max(),
    }
    for k in (5, 50, 1000):
        best = np.argsort(-ours, axis=1)[:, :k]
        top, wrong = (np.take_along_axis(each, best, axis=1) for each in (ours, gap))
        ratio = wrong.max(axis=1) / np.abs(top).max(axis=1)
        expected[f"topk_error_{k}"] = ratio.max()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-12), name
    assert set(found) < set(METRICS)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), error=st.floats(1e-4, 1.0))
def test_kl_stays_below_hoeffdings_bound(seed: int, error: float) -> None:
    reference = noise(seed, (5, 97))
    signs = np.sign(noise(seed + 1, (5, 97))).astype(np.float32)
    found = measured(reference, reference + np.float32(error) * signs).values
    worst = found["logit_error"] or 0.0
    assert 0 <= (found["kl_max"] or 0.0) <= worst**2 / 2 * 1.001


def test_values_do_not_depend_on_the_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, candidate = noise(1, (5, 64)), noise(2, (5, 64))
    whole = measured(reference, candidate)
    monkeypatch.setattr(rows, "_CHUNK_VALUES", 64)
    assert measured(reference, candidate).values == pytest.approx(whole.values)


def test_rows_with_nan_are_counted_and_left_out() -> None:
    reference = noise(3, (5, 64))
    candidate = reference.copy()
    candidate[1, 5] = np.nan
    found = measured(reference, candidate)
    assert found.nonfinite_rows == 1
    assert found.values["logit_error"] == 0
    candidate[3:] = np.inf
    found = measured(reference, candidate)
    assert found.nonfinite_rows == 3
    assert found.values["logit_error_rel_decode"] is None
    assert found.values["logit_error_rel"] is None
    assert found.values["logit_error_rel_prefill"] == 0


def test_identical_and_flat_rows_are_counted() -> None:
    reference = noise(4, (5, 64))
    candidate = reference.copy()
    assert measured(reference, candidate).identical_rows == 5
    candidate[4] = 1.0
    found = measured(reference, candidate)
    assert (found.identical_rows, found.flat_rows) == (4, 1)
    assert measured(candidate, candidate).flat_rows == 0


def test_all_zero_logits_do_not_divide_by_zero() -> None:
    nothing = np.zeros((5, 64), dtype=np.float32)
    found = measured(nothing, nothing)
    assert found.values["logit_error_rel"] == 0
    assert not found.frozen


def test_a_single_row_is_never_frozen() -> None:
    row = noise(5, (1, 8))
    assert not is_frozen(row)
    assert is_frozen(np.repeat(row, 2, axis=0))


def test_divergence_reports_margin_and_gap_of_the_token_taken() -> None:
    logits = np.array([[9.0, 1.0, 0.0], [4.0, 8.0, 2.0]], dtype=np.float32)
    assert find_divergence(logits, (0, 1), (0, 1), 10.0) is None
    found = find_divergence(logits, (0, 1), (0, 2), 10.0)
    assert found is not None
    assert (found.index, found.reference_id, found.candidate_id) == (1, 1, 2)
    assert found.margin == pytest.approx(0.4)
    assert found.gap == pytest.approx(0.6)


def test_a_shorter_continuation_is_not_a_divergence() -> None:
    logits = np.zeros((3, 4), dtype=np.float32)
    assert find_divergence(logits, (1, 2, 3), (1, 2), 1.0) is None


@pytest.mark.parametrize(
    ("ids", "reason", "right"),
    [
        ((5, 6, 7), "length", True),
        ((5, 6, 0), "eos_token", True),
        ((0,), "eos_token", True),
        ((5, 0, 7), "length", False),  # went on after the end
        ((5, 6), "length", False),  # gave up early
        ((5, 6, 7), "eos_token", False),  # claims an end that is not there
        ((5, 6, 0), "length", False),  # does not say that it ended
    ],
)
def test_continuations_end_at_the_first_end_token_or_at_the_limit(
    ids: tuple[int, ...], reason: str, *, right: bool
) -> None:
    assert ends_rightly(Generated(ids=ids, finish_reason=reason), (0,), 3) is right


def test_a_tie_of_the_two_best_does_not_excuse_a_third_token() -> None:
    reference = noise(6, (5, 64))
    reference[4, :3] = (50.0, 50.0, 25.0)
    for token, gap in ((1, 0.0), (2, 0.5)):
        found = measure_prompt(
            PROMPT,
            eos_token_ids=(63,),
            reference=side(reference, 0, 0),
            candidate=side(reference, 0, token),
        )
        assert found.values["greedy_margin"] == gap
        assert found.values["greedy_divergences"] == 1
