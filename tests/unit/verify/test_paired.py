"""The exact test of paired answers, against values worked out by hand."""

from math import comb

import pytest

from lmi_verify.paired import at_least, least_drop, mcnemar


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (5, 0, 1 / 32),
        (8, 2, (45 + 10 + 1) / 1024),
        (0, 5, 1.0),
        (0, 0, 1.0),
        (3, 3, (20 + 15 + 6 + 1) / 64),
    ],
)
def test_the_p_value_is_the_binomial_tail(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p)


def test_the_tail_is_the_sum_of_its_terms_for_thousands_of_trials() -> None:
    exact = sum(comb(2000, k) for k in range(1050, 2001)) / 2**2000
    assert at_least(1050, 2000, 0.5) == pytest.approx(exact, rel=1e-9)
    assert (at_least(0, 9, 0.1), at_least(1, 9, 0.0), at_least(9, 9, 1.0)) == (1.0, 0.0, 1.0)


def test_the_bound_of_all_losses_is_clopper_and_pearsons_closed_form() -> None:
    """For n of n hits the lower bound is 0.05 ** (1 / n)."""
    for lost in (1, 5, 10):
        bound = 2 * 0.05 ** (1 / lost) - 1
        assert least_drop(lost, 0, 200) == pytest.approx(bound * lost / 200)


def test_nothing_lost_bounds_the_drop_from_below_by_what_was_gained() -> None:
    assert least_drop(0, 7, 100) == pytest.approx(-0.07)
    assert least_drop(0, 0, 100) == 0.0


@pytest.mark.parametrize("apart", range(1, 40))
def test_a_build_that_is_as_good_fails_one_time_in_twenty_at_most(apart: int) -> None:
    """Over every outcome of `apart` fair coins; and it fails exactly where McNemar's test does."""
    alarms = [lost for lost in range(apart + 1) if least_drop(lost, apart - lost, 100) > 0]
    assert sum(comb(apart, lost) for lost in alarms) / 2**apart <= 0.05
    assert alarms == [lost for lost in range(apart + 1) if mcnemar(lost, apart - lost) < 0.05]


def test_more_losses_among_as_many_never_look_better() -> None:
    for apart in range(1, 20):
        bounds = [least_drop(lost, apart - lost, 100) for lost in range(apart + 1)]
        assert bounds == sorted(bounds)
        assert len(set(bounds)) == apart + 1
