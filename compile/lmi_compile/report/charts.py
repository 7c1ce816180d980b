"""Charts as inline SVG: words and numbers in, markup out. Pure; colours come from the page's style.

Every text that enters an SVG is escaped here; everything else in it is a number of ours.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TypeAlias

from lmi_compile.report.scales import Scale, linear, logarithmic
from lmi_verify.measurements import PromptMeasurement

Layer: TypeAlias = tuple[str, float, float]
WIDTH, HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 468, 16, 248
_BINS_PER_DECADE = 4
_FLOOR = 1e-12  # a KL or an error of 0 has no place on a logarithmic axis


def error_by_position(prompts: Sequence[PromptMeasurement], limit: float | None) -> str:
    """Each row's relative logit error over its position, with the median of each stretch."""
    rows = [
        (place, max(error, _FLOOR), place < prompt.prompt_tokens)
        for prompt in prompts
        for place, error in _pairs(prompt, "position", "error_rel")
    ]
    if not rows:
        return ""
    x = linear((place for place, _, _ in rows), _LEFT, _RIGHT, zero=True)
    y = logarithmic([*(e for _, e, _ in rows), *([limit] if limit else [])], _BOTTOM, _TOP)
    parts = [_axes(x, y, "position in the sequence", "relative logit error")]
    if limit:
        parts.append(_limit(y, limit))
    parts += [
        f'<circle class="dot {"prefill" if prefill else "decode"}" cx="{x(place)}" '
        f'cy="{y(error)}" r="2.2"/>'
        for place, error, prefill in rows
    ]
    parts.append(_line(((x(place), y(error)) for place, error in _medians(rows)), "median"))
    return _svg("Error by position", parts)


def logit_scatter(pairs: Sequence[tuple[float, float]]) -> str:
    """The candidate's logits over the reference's; a right build lies on the diagonal."""
    if not pairs:
        return ""
    values = [value for pair in pairs for value in pair]
    x, y = linear(values, _LEFT, _RIGHT), linear(values, _BOTTOM, _TOP)
    ends = ((x(x.low), y(y.low)), (x(x.high), y(y.high)))
    parts = [_axes(x, y, "reference's logit", "candidate's logit"), _line(ends, "guide")]
    parts += [
        f'<circle class="dot prefill" cx="{x(left)}" cy="{y(right)}" r="1.9"/>'
        for left, right in pairs
    ]
    return _svg("Logits, candidate over reference", parts)


def kl_histogram(prompts: Sequence[PromptMeasurement], mean: float | None) -> str:
    """How many rows have which KL divergence from the reference, and where the mean lies."""
    found = [max(kl, _FLOOR) for prompt in prompts for _, kl in _pairs(prompt, "position", "kl")]
    if not found:
        return ""
    x = logarithmic(found, _LEFT, _RIGHT)
    bins = (len(x.ticks) - 1) * _BINS_PER_DECADE
    counts = [0] * bins
    for value in found:
        place = (math.log10(max(value, x.low)) - math.log10(x.low)) * _BINS_PER_DECADE
        counts[min(int(place + 1e-9), bins - 1)] += 1
    y = linear(counts, _BOTTOM, _TOP, zero=True)
    wide = (_RIGHT - _LEFT) / bins
    parts = [_axes(x, y, "KL(reference ‖ candidate), nats", "rows")]
    for index, count in enumerate(counts):
        if count:
            left, top = round(_LEFT + index * wide + 0.75, 1), y(count)
            size = f'width="{round(wide - 1.5, 1)}" height="{round(_BOTTOM - top, 1)}"'
            parts.append(f'<rect class="bar prefill" x="{left}" y="{top}" {size}/>')
    if mean and mean >= x.low:
        parts.append(_upright(x, mean, "mean"))
    return _svg("KL divergence of the rows", parts)


def perplexity_bars(perplexity: Mapping[str, float], limit: float | None) -> str:
    """The corpus's perplexity by side, and the most that the gate allows."""
    sides = [name for name in ("reference", "baseline", "candidate") if name in perplexity]
    if not sides:
        return ""
    values = [perplexity[name] for name in sides]
    y = linear([*values, *([limit] if limit else [])], _BOTTOM, _TOP, zero=True)
    parts = [_axes(None, y, "", "perplexity")]
    step = (_RIGHT - _LEFT) / len(sides)
    for index, (name, value) in enumerate(zip(sides, values, strict=True)):
        middle, top = round(_LEFT + (index + 0.5) * step, 1), y(value)
        kind = "decode" if name == "candidate" else "quiet"
        left, wide = round(middle - step * 0.28, 1), round(step * 0.56, 1)
        tall = round(_BOTTOM - top, 1)
        parts += [
            f'<rect class="bar {kind}" x="{left}" y="{top}" width="{wide}" height="{tall}"/>',
            _text(middle, _BOTTOM - 10, f"{value:.4g}", "value middle"),
            _text(middle, _BOTTOM + 18, name, "tick middle"),
        ]
    if limit:
        parts.append(_limit(y, limit))
    return _svg("Perplexity", parts)


def layer_noise(layers: Sequence[Layer]) -> str:
    """Each layer's error and the noise band's end; layers as (name, error, band)."""
    if not layers:
        return ""
    floor = [(name, max(error, _FLOOR), max(band, _FLOOR)) for name, error, band in layers]
    x = linear((1, len(layers)), _LEFT, _RIGHT)
    y = logarithmic([value for _, *pair in floor for value in pair], _BOTTOM, _TOP)
    parts = [_axes(x, y, "layer", "relative error of its output")]
    parts.append(_line(((x(i), y(band)) for i, (_, _, band) in enumerate(floor, 1)), "guide"))
    parts.append(_line(((x(i), y(error)) for i, (_, error, _) in enumerate(floor, 1)), "median"))
    for index, (name, error, band) in enumerate(floor, 1):
        kind = "wrong" if error > band else "prefill"
        shown = f"<title>{escape(name)}: {error:.3g}, band {band:.3g}</title>"
        parts.append(
            f'<circle class="dot {kind}" cx="{x(index)}" cy="{y(error)}" r="3">{shown}</circle>'
        )
    return _svg("Noise by layer", parts)


def _svg(title: str, parts: Iterable[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return "".join((head, f"<title>{escape(title)}</title>", *parts, "</svg>"))


def _axes(x: Scale | None, y: Scale, below: str, beside: str) -> str:
    parts = []
    for tick in _thinned(y.ticks):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tick)}H{_RIGHT}"/>')
        parts.append(_text(_LEFT - 7, y(tick) + 4, y.label(tick), "tick end"))
    parts.append(f'<path class="axis" d="M{_LEFT} {_BOTTOM}H{_RIGHT}"/>')
    if x is not None:
        parts += [
            _text(x(tick), _BOTTOM + 18, x.label(tick), "tick middle") for tick in _thinned(x.ticks)
        ]
    parts.append(_text((_LEFT + _RIGHT) / 2, HEIGHT - 12, below, "name middle"))
    middle = (_TOP + _BOTTOM) / 2
    parts.append(
        f'<text class="name middle" transform="translate(13 {middle}) rotate(-90)">'
        f"{escape(beside)}</text>"
    )
    return "".join(parts)


def _thinned(ticks: Sequence[float]) -> Sequence[float]:
    return ticks if len(ticks) <= 7 else ticks[::2]  # noqa: PLR2004 - as many as are legible


def _limit(y: Scale, limit: float) -> str:
    line = f'<path class="limit" d="M{_LEFT} {y(limit)}H{_RIGHT}"/>'
    return line + _text(_RIGHT, y(limit) - 5, f"limit {limit:.3g}", "limit-name end")


def _upright(x: Scale, value: float, word: str) -> str:
    line = f'<path class="guide" d="M{x(value)} {_TOP}V{_BOTTOM}"/>'
    side, shift = ("end", -6) if x(value) > (_LEFT + _RIGHT) / 2 else ("start", 6)
    return line + _text(x(value) + shift, _TOP + 8, f"{word} {value:.3g}", f"value {side}")


def _line(points: Iterable[tuple[float, float]], kind: str) -> str:
    joined = " ".join(f"{left},{top}" for left, top in points)
    return f'<polyline class="{kind}" points="{joined}"/>'


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{round(x, 1)}" y="{round(y, 1)}">{escape(words)}</text>'


def _pairs(prompt: PromptMeasurement, left: str, right: str) -> list[tuple[float, float]]:
    """Two of a prompt's series, without the rows where one has no number."""
    series = prompt.series
    both = zip(series.get(left, ()), series.get(right, ()), strict=True)
    return [(x, y) for x, y in both if x is not None and y is not None]


def _medians(rows: Sequence[tuple[float, float, bool]]) -> list[tuple[float, float]]:
    """Middle position and median error of up to 16 stretches with the same number of rows."""
    ordered = sorted((place, error) for place, error, _ in rows)
    size = max(1, math.ceil(len(ordered) / 16))
    found = []
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        errors = sorted(error for _, error in part)
        found.append((sum(place for place, _ in part) / len(part), errors[len(part) // 2]))
    return found
