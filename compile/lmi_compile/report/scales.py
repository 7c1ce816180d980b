"""Scales of charts: from values to places, with ticks that a person reads. Pure."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STEPS = (1, 2, 2.5, 5, 10)
_MOST_DECADES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One axis.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Place of `low`, in the chart's units.
        end: Place of `high`.
        log: Whether the axis is logarithmic.
        ticks: Values that get a line and a label.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """The value's place; one outside of the axis is put at its end."""
        turn: Callable[[float], float] = math.log10 if self.log else float
        low, high = turn(self.low), turn(self.high)
        share = (turn(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def label(self, tick: float) -> str:
        """How a tick reads."""
        if self.log:
            return "10" + str(round(math.log10(tick))).translate(_SUPERSCRIPTS)
        return f"{tick:.6g}".replace("-", "−")  # noqa: RUF001 - a minus for people


def linear(values: Iterable[float], start: float, end: float, *, zero: bool = False) -> Scale:
    """An axis over the values, its ends at ticks; with `zero`, from 0."""
    found = [*values, *([0.0] if zero else [])] or [0.0]
    low, high = min(found), max(found)
    if high == low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in _STEPS if each * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 12) for index in range(first, last + 1))
    return Scale(low=ticks[0], high=ticks[-1], start=start, end=end, log=False, ticks=ticks)


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """An axis over the positive values, from decade to decade, six at most."""
    found = [value for value in values if value > 0] or [1.0]
    last = math.ceil(math.log10(max(found)) - 1e-9)
    first = max(math.floor(math.log10(min(found)) + 1e-9), last - _MOST_DECADES)
    first = min(first, last - 1)
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Scale(low=ticks[0], high=ticks[-1], start=start, end=end, log=True, ticks=ticks)
