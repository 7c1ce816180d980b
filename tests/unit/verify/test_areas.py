"""What a pattern of measurements points at; the battery holds it to account with real faults."""

from collections.abc import Callable

import pytest

from lmi_verify.areas import diagnose
from lmi_verify.measurements import Measurements, PromptMeasurement
from lmi_verify.verdict import Check

Level = Callable[[int], float]


def check(metric: str) -> Check:
    return Check(
        metric=metric, measured=1.0, limit=0.0, direction="at_most", passed=False, reason="",
        source="", loosened=False, prompt=None,
    )  # fmt: skip


def measured(level: Level, lone: float = 0.0, **values: float) -> Measurements:
    """A prompt of one token and two of 24, then 4 decoded tokens, their divergence by position."""

    def prompt(name: str, tokens: int, of: Level, **own: float) -> PromptMeasurement:
        places = range(tokens + 4)
        return PromptMeasurement(
            id=name, rows=len(places), values={"kl_mean": 0.1, **values, **own}, divergence=None,
            nonfinite_rows=0, flat_rows=0, frozen=False, identical_rows=0, prompt_tokens=tokens,
            series={"position": tuple(map(float, places)), "kl": tuple(map(of, places))},
        )  # fmt: skip

    prompts = (
        prompt("one", 1, lambda place: lone if place == 0 else level(place)),
        prompt("longer", 24, level),
        prompt("shorter", 23, level),
    )
    return Measurements(prompts_version="v2", prompts_digest="", prompts=prompts)


def named(found: Measurements, *failed: str, method: str = "none") -> tuple[str, ...]:
    areas = diagnose([check(each) for each in failed], found, dtype="float32", method=method)
    assert len(areas) <= 2
    assert all(area.evidence for area in areas)
    return tuple(area.name for area in areas)


@pytest.mark.parametrize(
    ("level", "lone", "first"),
    [
        (lambda place: 1e-4 * place, 0.0, "positions"),
        (lambda place: 0.2 * (place >= 10), 0.0, "attention"),
        (lambda _: 0.5, 0.0, "attention"),
        (lambda _: 0.5, 0.4, "weights"),
        (lambda _: 0.5, 1e-5, "weights"),
        (lambda place: 0.2 if place else 3e-9, 3e-9, "weights"),
        (lambda place: 0.5 * (place >= 23), 0.0, "positions"),
    ],
    ids=[
        "grows",
        "beyond a window",
        "sees ahead",
        "everywhere",
        "one token hardly",
        "first hardly",
        "only decoded",
    ],
)
def test_the_rows_that_are_wrong_name_the_area(level: Level, lone: float, first: str) -> None:
    assert named(measured(level, lone), "kl_mean")[0] == first


@pytest.mark.parametrize(
    ("metric", "area"),
    [
        ("token_mismatches", "tokenizer"),
        ("settings_errors", "tokenizer"),
        ("repeat_error_rel", "cache"),
        ("draws_off", "sampling"),
        ("log_prob_error", "sampling"),
    ],
)
def test_a_measure_of_its_own_outweighs_the_rows(metric: str, area: str) -> None:
    assert named(measured(lambda _: 0.5, 0.5), metric, "kl_mean") == (area,)


def test_logits_times_a_number_are_the_samplers() -> None:
    scaled = measured(lambda _: 0.5, 0.5, slope_error=0.1, top1_agreement=1.0)
    assert named(scaled, "kl_mean") == ("sampling",)
    other_choices = measured(lambda _: 0.5, 0.5, slope_error=0.99, top1_agreement=0.1)
    assert named(other_choices, "kl_mean")[0] == "weights"


@pytest.mark.parametrize(
    ("kl", "base", "first"), [(0.2, 0.3, "quantisation"), (0.3, 0.2, "weights")]
)
def test_the_baseline_tells_a_method_from_weights(kl: float, base: float, first: str) -> None:
    values = {"kl_mean": kl, "baseline_kl_mean": base, "method_kl_mean": 0.1}
    found = named(measured(lambda _: 0.5, 0.5, **values), "baseline_kl_mean", method="int8_wo")
    assert found[0] == first
    assert set(found) == {"quantisation", "weights"}


@pytest.mark.parametrize(
    ("base", "areas"),
    [(8.9, ("weights", "attention")), (9.1, ("quantisation", "weights"))],
    ids=["with the method's own error", "rounded in another way"],
)
def test_what_a_method_cannot_explain_is_not_blamed_on_it(
    base: float, areas: tuple[str, ...]
) -> None:
    values = {"kl_mean": 9.0, "baseline_kl_mean": base, "method_kl_mean": 0.1}
    assert named(measured(lambda _: 9.0, 9.0, **values), "kl_mean", method="int8_wo") == areas


def test_an_endpoint_that_shows_no_rows_gets_no_guess() -> None:
    prompt = PromptMeasurement(
        id="a", rows=0, values={"greedy_margin": 1.0}, divergence=None, nonfinite_rows=0,
        flat_rows=0, frozen=False, identical_rows=0,
    )  # fmt: skip
    found = Measurements(prompts_version="v2", prompts_digest="", prompts=(prompt,))
    assert named(found, "greedy_margin") == ()
