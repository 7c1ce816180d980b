"""What quantisation and splitting cost SmolLM2, measured on packages; writes the page.

    python benchmarks/quantization.py [--cache DIR] [--artifact DIR@COMMIT ...] [--out FILE]
    python benchmarks/quantization.py --write       (the page from the JSON file, nothing measured)

Every case is a recipe of the catalogue whose package is finished in the cache (`lmi-compile RECIPE`
makes it) or an artifact of a registry, built at another commit. Of an earlier run at the same
commit and day, only what was missing is measured; of one at another commit, what there is no
package for is kept and says its commit. A control is the same recipe's package with weights that
were not smoothed: fitted and packaged here by the steps' own functions, and run and judged where
that recipe's own package was.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from quality import TEXT, eager, measure, packaged, windows
from safetensors.torch import load_file

from lmi_compile.backends.aoti import candidate, package, weights
from lmi_compile.plan import make_plan
from lmi_compile.settings import load_settings
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Workspace
from lmi_verify import judging

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "quantization.json", ROOT / "docs" / "quantization.md"
RECIPE = "smollm2-135m-instruct-cpu"
COMPILED = "aoti-torch-2.13"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Limits: perplexity's rise in percent, mean KL in nats, top-1 agreement in percent, size."""

    rise: float | None = None
    kl: float | None = None
    top1: float | None = None
    size: float | None = None
    least_rise: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recipe of the catalogue, by the end of its name, and what it has to keep."""

    title: str
    recipe: str
    change: tuple[str, ...] = ()
    control: bool = False
    bars: Bars = Bars()


_TOKEN = Bars(rise=3, kl=0.04, top1=90)
_FP8 = Bars(rise=5, kl=0.07, top1=86, size=0.30)
CASES = (
    Case(title="float32", recipe=""),
    Case(title="bfloat16", recipe="-bfloat16"),
    Case(title="int8 weight-only", recipe="-int8", bars=Bars(rise=1, size=0.30)),
    Case(title="int4 weight-only, groups of 32", recipe="-int4"),
    Case(title="SmoothQuant per token, alpha 0.5", recipe="-smoothquant", bars=_TOKEN),
    Case(
        title="SmoothQuant per token, alpha 0.8",
        recipe="-smoothquant",
        change=("quantization.smoothquant.alpha=0.8",),
        bars=_TOKEN,
    ),
    Case(title="control: W8A8 per token, not smoothed", recipe="-smoothquant", control=True),
    Case(
        title="SmoothQuant static, alpha 0.8",
        recipe="-smoothquant-static",
        bars=Bars(rise=10, kl=0.10, top1=84),
    ),
    Case(
        title="control: W8A8 static, not smoothed",
        recipe="-smoothquant-static",
        control=True,
        bars=Bars(least_rise=50),
    ),
    Case(title="FP8 static", recipe="-fp8", bars=_FP8),
    Case(title="FP8 static, FP8 cache", recipe="-fp8-kv", bars=Bars(rise=8, kl=0.08, size=0.30)),
    Case(
        title="FP8 per token", recipe="-fp8", change=("quantization.fp8.per_token=true",), bars=_FP8
    ),
)
SPLIT = Case(title="tensor parallel 3", recipe="-tp3")


def steps_of(case: Case, cache: Path) -> dict[str, Path]:
    """Step to its directory, of those that are finished."""
    plan = make_plan(survey(load(RECIPE + case.recipe, case.change), cache))
    workspace = Workspace(cache)
    found = {planned.step.name: workspace.find(planned.key) for planned in plan.steps}
    return {name: path for name, path in found.items() if path is not None}


def unsmoothed(case: Case, steps: dict[str, Path], folder: Path, cache: Path) -> dict[str, Path]:
    """The steps of a control: weights without smoothing, and all that follows from them."""
    plan = make_plan(survey(load(RECIPE + case.recipe, case.change), cache))
    judged = next(one.step.run for one in plan.steps if one.step.name == "judge")
    made = {name: folder / name for name in ("weights", "package", "candidate", "judge")}
    for out in made.values():
        out.mkdir(parents=True)
    weights.run({}, steps, made["weights"])
    package.run({"name": "control"}, {**steps, **made}, made["package"])
    if "judge" not in steps:
        return {**steps, "package": made["package"]}
    candidate.run({}, {**steps, **made}, made["candidate"])
    sides = {name: ({**steps, **made})[name] for name in ("reference", "candidate")}
    judging.run(judged.params, sides, made["judge"])  # type: ignore[union-attr]  # a call of ours
    return {**steps, **made}


def size(tree: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A package, its verdict if it was judged, and the commit that built it; empty is this one."""

    tree: Path
    verdict: dict[str, Any] | None
    commit: str = ""


class Sources(NamedTuple):
    """The cache of builds, the evaluation text, and artifacts by their recipe's name."""

    cache: Path
    text: Path
    artifacts: dict[str, Built]


def artifact(text: str) -> tuple[str, Built]:
    """The recipe's name and the package of a registry's artifact, `DIR@COMMIT`."""
    folder, _, commit = text.rpartition("@")
    name = json.loads((Path(folder) / "manifest.json").read_bytes())["name"]
    statements = (json.loads(path.read_bytes()) for path in Path(folder).glob("statements/*.json"))
    verdict = next(one for one in statements if "checks" in one["predicate"])["predicate"]
    return name, Built(tree=Path(folder) / "tree", verdict=verdict, commit=commit)


def found(case: Case, sources: Sources, folder: Path) -> Built | None:
    """What there is to measure for a case."""
    if not case.control and not case.change and RECIPE + case.recipe in sources.artifacts:
        return sources.artifacts[RECIPE + case.recipe]
    steps = steps_of(case, sources.cache)
    if case.control and {"compile", "calibrate"} <= set(steps):
        steps = unsmoothed(case, steps, folder, sources.cache)
    elif "package" not in steps:
        return None
    judged = steps.get("judge")
    verdict = None if judged is None else json.loads((judged / "verdict.json").read_bytes())
    return Built(tree=steps["package"], verdict=verdict)


def measured(cases: Sequence[Case], sources: Sources, before: dict[str, Any]) -> dict[str, Any]:
    """All cases, one after the other, against one float32 model; what is known stays."""
    commit = before.get("about", {}).get("commit", "")
    kept = {row["title"]: row for row in before.get("rows", ()) if not row["missing"]}
    here = {title: row for title, row in kept.items() if not row["commit"]}
    known = here if before.get("about") == about() else {}
    model = model_of(sources.cache)
    samples = list(windows(model, sources.text, 8, 256))
    reference = eager(model)
    with torch.no_grad():
        exact = [reference(ids).float() for ids in samples]
    rows: list[dict[str, Any]] = []
    for case in cases:
        if case.title in known:
            rows.append(known[case.title])
            continue
        with tempfile.TemporaryDirectory() as folder:
            built = found(case, sources, Path(folder))
            row: dict[str, Any] = {"title": case.title, "missing": built is None}
            if built is None and case.title in kept:
                row = {**kept[case.title], "commit": kept[case.title]["commit"] or commit}
            elif built is not None:
                row |= measure(exact, packaged(built.tree), samples)
                row |= {"bytes": size(built.tree), "commit": built.commit, **_judged(built.verdict)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return {"about": about(), "rows": rows, "split": split(sources.cache)}


def _judged(verdict: dict[str, Any] | None) -> dict[str, Any]:
    if verdict is None:
        return {"verdict": "not judged", "judged_kl": None}
    checks = {one["metric"]: one["measured"] for one in verdict["checks"]}
    return {"verdict": verdict["decision"], "judged_kl": checks.get("kl_mean")}


def split(cache: Path) -> dict[str, Any]:
    """The package of three processes beside the one of one: what both wrote for the judge."""
    whole, parts = steps_of(CASES[0], cache), steps_of(SPLIT, cache)
    if "candidate" not in whole or "candidate" not in parts:
        return {"missing": True}
    name = "outputs.safetensors"
    expected, found = (load_file(steps["candidate"] / name) for steps in (whole, parts))
    errors = [
        float((found[name] - tensor).abs().max() / tensor.abs().max())
        for name, tensor in expected.items()
        if name.endswith("_logits")
    ]
    texts = [name for name in expected if name.endswith(".generated_ids")]
    judged = parts.get("judge")
    verdict = None if judged is None else json.loads((judged / "verdict.json").read_bytes())
    return {
        "missing": False,
        "error": max(errors),
        "compared": len(errors),
        "texts": len(texts),
        "equal": sum(torch.equal(found[name], expected[name]) for name in texts),
        "tokens": sum(len(expected[name]) for name in texts),
        "shards": [path.stat().st_size for path in sorted(parts["package"].glob("weights-*"))],
        "verdict": _judged(verdict)["verdict"],
    }


def model_of(cache: Path) -> Path:
    """The model's directory, which every recipe shares."""
    for planned in make_plan(survey(load(RECIPE), cache)).steps:
        path = Workspace(cache).find(planned.key)
        if planned.step.name == "model" and path is not None:
            return path
    return sys.exit(f"build {RECIPE} first")


def about() -> dict[str, str]:
    """Where and of what the figures are."""
    told = subprocess.run(
        ["/usr/bin/env", "git", "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line for line in lines if line.startswith("model name")), ": unknown")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    has = [one for one in ("avx2", "avx512_vnni", "amx_int8") if one in flags]
    return {
        "commit": told.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": f"{model.partition(':')[2].strip()} ({platform.machine()}, {', '.join(has)})",
        "torch": str(torch.__version__),
    }


def page(results: dict[str, Any]) -> str:
    """The page, from the results alone."""
    by_title = {row["title"]: row for row in results["rows"]}
    base = by_title[CASES[0].title]["bytes"]
    lines = [_shown(case, by_title.get(case.title, {"missing": True}), base) for case in CASES]
    head = _HEAD.format(**results["about"], mega=base / 1e6, text=TEXT.as_posix())
    notes = _TAIL + _smoothed(by_title)
    return (
        head
        + "\n".join(lines)
        + "\n"
        + notes
        + _split_shown(results.get("split", {"missing": True}))
    )


def _smoothed(rows: dict[str, Any]) -> str:
    """What smoothing is worth with a scale per token, where both sides were measured."""
    control = rows.get("control: W8A8 per token, not smoothed", {"missing": True})
    lower = [
        f"{100 * (1 - row['kl_mean'] / control['kl_mean']):.0f} % (alpha {alpha})"
        for alpha in ("0.5", "0.8")
        if not control["missing"]
        and not (row := rows[f"SmoothQuant per token, alpha {alpha}"])["missing"]
    ]
    told = (
        f"- With a scale per token, smoothing lowers the KL by {' and '.join(lower)}; bar 25 %.\n"
    )
    return told if lower else ""


def _split_shown(found: dict[str, Any]) -> str:
    if found["missing"]:
        return _SPLIT + "Not run.\n"
    return _SPLIT + _SPLIT_FOUND.format(**found, largest=max(found["shards"]) / 1e6)


def _shown(case: Case, row: dict[str, Any], base: int) -> str:
    if row.get("missing"):
        return f"| {case.title} | not run | | | | |"
    bars = case.bars
    ratio = row["bytes"] / base
    cells = (
        _cell(
            f"{row['change_percent']:+.2f} %",
            row["change_percent"],
            bars.rise,
            "%",
            least=bars.least_rise,
        ),
        _cell(f"{row['kl_mean']:.4f}", row["kl_mean"], bars.kl),
        _cell(f"{row['top1_percent']:.1f} %", -row["top1_percent"], bars.top1 and -bars.top1, "%"),
        _cell(f"{ratio:.3f}", ratio, bars.size),
        row["verdict"] + (f", KL {row['judged_kl']:.4f}" if row["judged_kl"] is not None else ""),
    )
    title = case.title + (f" (built at `{row['commit']}`)" if row["commit"] else "")
    return f"| {title} | " + " | ".join(cells) + " |"


def _cell(
    shown: str, value: float, bar: float | None, unit: str = "", *, least: float | None = None
) -> str:
    """A measured value with its bar, and whether it keeps it."""
    if least is not None:
        return f"{shown} (at least +{least:g} %: {'as it must' if value >= least else 'MISSED'})"
    if bar is None:
        return shown
    return f"{shown} ({abs(bar):g}{unit and ' ' + unit}: {'kept' if value <= bar else 'MISSED'})"


_HEAD = """# What quantisation and splitting cost

SmolLM2-135M-Instruct, each method built from its recipe of the catalogue, measured on the package
through the loader inside it: 8 x 256 tokens of the Python language reference (`{text}`, 2,040
predicted) that calibration never saw, against the Hugging Face model in float32. In brackets: the
bar of the method, and whether it is kept. `python benchmarks/quantization.py` measures again and
writes this page.

Run on {date} at commit `{commit}`, torch {torch}, {cpu}; target x86-64-v3, so 8-bit weights
under 8-bit activations have the reduced range. The float32 package has {mega:.0f} MB.

| method | perplexity | mean KL, nats | top-1 | size to float32 | verdict, on prompt set v2 |
|---|---|---|---|---|---|
"""
_TAIL = """
- The verdict is of another text: prompt set v2 has short prompts in many scripts, code and blanks,
  at which every method is further from float32 than at prose. Scales that calibration fixed on the
  language reference do not cover such prompts: whoever serves them has to calibrate on them, or to
  take a scale per token.
- The checkpoint was stored in 4 bits in groups of 32 itself (Q4_1), so `int4_wo` with groups of 32
  finds the same steps again and loses less than it would on another model.
- Embedding and head are one tensor of 8 bits with a scale per row, in every method but float32 and
  bfloat16.
- Without VNNI, oneDNN adds two products of u8 x s8 in 16 bits. Instead of 7 bits for every weight,
  neighbours of one sign are kept to a sum of 128, and each row has the scale that loses least:
  exact on such processors, and near 8 bits in quality.
- A control is the same package with weights that were not smoothed. The static one shows that the
  measurement sees damage, and that the gate refuses it.
- FP8 is multiplied in float32: right and small. Decode reads weights as they are stored, prefill
  widens them first and is slower than float32. The FP8 cache holds keys and values in E4M3 with a
  scale per layer; prefill attends to what is stored, so prefill and decode see the same numbers.
"""
_SPLIT = """
## Split over processes

`tensor_parallel_degree: 3` in float32: each of three processes holds a third of the heads, of the
MLP and of the vocabulary. Beside the package of one process, on prompt set v2:

"""
_SPLIT_FOUND = """- largest difference of a logit: {error:.1e} of the largest logit (limit 1e-4), in
  {compared} sets of logits from prefill and decode;
- {equal} of {texts} continuations have the same tokens ({tokens} in all);
- the largest shard has {largest:.0f} MB; verdict {verdict}.
"""


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=load_settings({}).cache_dir)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--text", type=Path, default=ROOT / TEXT)
    parser.add_argument("--artifact", action="append", default=[], type=artifact)
    parser.add_argument("--skip", action="append", default=[], help="a case's title")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not given.write:
        before = json.loads(given.out.read_bytes()) if given.out.is_file() else {}
        cases = [case for case in CASES if case.title not in given.skip]
        sources = Sources(given.cache, given.text, dict(given.artifact))
        results = measured(cases, sources, before)
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(given.out.read_bytes())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
