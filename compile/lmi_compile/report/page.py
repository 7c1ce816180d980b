"""One verdict as one HTML page that asks nothing of the network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: TID253 - named only by the verb
from markupsafe import Markup

from lmi_compile.report.charts import (
    Layer,
    error_by_position,
    kl_histogram,
    layer_noise,
    logit_scatter,
    perplexity_bars,
)
from lmi_verify.measurements import METRICS
from lmi_verify.prompts import known_versions, load_prompts
from lmi_verify.verdict import Check, Verdict

_TONES = {"ACCEPT": "ok", "REGRESSION": "no", "ANOMALOUS": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure: `svg` is ours and escaped; `keyed` where prefill and decode have colours."""

    title: str
    caption: str
    svg: Markup
    keyed: bool = False


def page(
    verdict: Verdict, title: str, layers: Sequence[Layer] = (), notes: Sequence[str] = ()
) -> str:
    """The page.

    Args:
        verdict: What it shows.
        title: Of the artifact or the file.
        layers: Name, error and noise band of each layer, where `verify --explain` has run.
        notes: What else whoever serves the artifact should know.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        verdict=verdict,
        title=title,
        tone=_TONES.get(verdict.decision, "hm"),
        sentence=verdict.summary.removeprefix(f"{verdict.decision}: "),
        facts=[(name, value) for name, value in _facts(verdict).items() if value],
        notes=notes,
        areas=verdict.areas,
        loosened=[check.metric for check in verdict.checks if check.loosened],
        gates=[_gate(check) for check in verdict.checks],
        charts=charts(verdict, layers),
        texts=texts(verdict),
        measured=_measured(verdict),
        footer=_footer(verdict),
    )


def charts(verdict: Verdict, layers: Sequence[Layer] = ()) -> list[Chart]:
    """The figures that there are numbers for."""
    measured = verdict.measurements
    if measured is None:
        return []
    limits = {check.metric: check.limit for check in verdict.checks}
    rise = limits.get("nll_rise")
    known = measured.perplexity.get("reference")
    most = known * math.exp(rise) if rise is not None and known is not None else None
    mean = measured.overall("kl_mean").value
    drawn = (
        (
            "Error by position",
            "one dot a row, the line is the median",
            error_by_position(measured.prompts, limits.get("logit_error_rel")),
            True,
        ),
        (
            "Logits",
            "a right build lies on the dashed diagonal",
            logit_scatter(measured.scatter),
            False,
        ),
        (
            "KL divergence",
            "how far each row's distribution is from the reference's",
            kl_histogram(measured.prompts, mean),
            False,
        ),
        (
            "Perplexity",
            "on the fixed corpus; lower is better",
            perplexity_bars(measured.perplexity, most),
            False,
        ),
        (
            "Noise by layer",
            "dashed: what the numbers of the build explain",
            layer_noise(layers),
            False,
        ),
    )
    return [
        Chart(title=title, caption=caption, svg=Markup(svg), keyed=keyed)  # noqa: S704 - charts.py escapes every text
        for title, caption, svg, keyed in drawn
        if svg
    ]


def texts(verdict: Verdict) -> list[dict[str, object]]:
    """Both continuations of each prompt that has them, those that differ first."""
    known = _prompt_texts(verdict.prompts_version)
    found: list[dict[str, object]] = [
        {
            "id": prompt.id,
            "prompt": known.get(prompt.id, ""),
            "reference": prompt.reference_pieces,
            "candidate": prompt.candidate_pieces,
            "diverges": prompt.divergence.index if prompt.divergence else None,
        }
        for prompt in (verdict.measurements.prompts if verdict.measurements else ())
        if prompt.reference_pieces and prompt.candidate_pieces
    ]
    return sorted(found, key=lambda each: each["diverges"] is None)


def _prompt_texts(version: str | None) -> dict[str, str]:
    """The texts of a prompt set by id; empty when this installation does not have it."""
    if version not in known_versions():
        return {}
    return {prompt.id: prompt.text for prompt in load_prompts(version).prompts}


def _gate(check: Check) -> dict[str, object]:
    metric = METRICS.get(check.metric)
    sign = "≤" if check.direction == "at_most" else "≥"
    return {
        "title": metric.title if metric else check.metric,
        "measured": "none" if check.measured is None else f"{check.measured:.3g}",
        "limit": f"{sign} {check.limit:.3g}",
        "share": _share(check),
        "passed": check.passed,
        "prompt": check.prompt,
        "noise": check.noise if metric else check.reason,
        "source": check.source,
    }


def _share(check: Check) -> float | None:
    """How much of a limit is used up, in percent; None where a share says nothing."""
    if check.measured is None or check.limit <= 0:
        return None
    used = check.measured / check.limit
    if check.direction == "at_least":
        used = (1 - check.measured) / (1 - check.limit) if check.limit < 1 else 0.0
    return round(min(max(used, 0.0), 1.0) * 100, 1)


def _facts(verdict: Verdict) -> dict[str, str]:
    measured = verdict.measurements
    return {
        "dtype": verdict.dtype,
        "quantisation": verdict.method,
        "compared": verdict.scope,
        "prompts": f"{verdict.prompts_version or 'unknown'}"
        + (f", {len(measured.prompts)} of them" if measured else ""),
        "rows": str(sum(each.rows for each in measured.prompts)) if measured else "",
    }


def _measured(verdict: Verdict) -> Sequence[dict[str, object]]:
    if verdict.measurements is None:
        return []
    everything = [
        (METRICS[name].title, _shown(verdict.measurements.overall(name).value)) for name in METRICS
    ]
    groups: list[dict[str, object]] = [{"id": "all prompts", "rows": everything}]
    groups += [
        {
            "id": prompt.id,
            "rows": [
                (METRICS[name].title, _shown(value))
                for name, value in prompt.values.items()
                if name in METRICS
            ],
        }
        for prompt in verdict.measurements.prompts
    ]
    return groups


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _footer(verdict: Verdict) -> list[str]:
    lines = ["lmi-compile report. The numbers are verdict.json's; limits come with their sources."]
    if verdict.prompts_digest:
        lines.append(f"prompts {verdict.prompts_digest}")
    return lines
