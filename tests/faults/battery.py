"""Seeds faults, lets the shipped judge decide, and keeps score.

    python tests/faults/battery.py [--only WORD] [--jobs N] [--write]

The last line is `faults: N caught, N missed, N false alarms`; exit 1 when it is not all caught and
none false. With --write, docs/faults.md is written anew. The verdicts are kept in the cache,
under faults/verdicts: `lmi-compile report` shows one.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
from answering import answer
from catalogue import FAULTS, Fault
from cleans import CLEANS, Clean
from ground import BUILDS, Build, Ground
from parts import Parts

from lmi_compile.settings import load_settings
from lmi_verify import judging
from lmi_verify.outputs import PARTS
from lmi_verify.verdict import Check, Verdict, parse


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one fault in one build, at the smallest size that was caught.

    Attributes:
        fault, build: Their names.
        area: Where the fault lies.
        size: The smallest that was caught, in words; empty where the fault has no size.
        decision: The verdict's.
        areas: What the verdict names, the first is its first choice.
        by: The gate that failed most clearly, or the finding.
        measured, limit: Of that gate, in words.
        caught: Not accepted, and the right area is named.
        note: The first size down the ladder that is not caught, if any.
    """

    fault: str
    build: str
    area: str
    size: str
    decision: str
    areas: tuple[str, ...]
    by: str
    measured: str
    limit: str
    caught: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A right build that was not accepted."""

    build: str
    summary: str


def judged(ground: Ground, parts: Parts, model: str, build: Build, groups: int) -> Verdict:
    """What the shipped judge says of a build, from its outputs alone."""
    with tempfile.TemporaryDirectory(dir=ground.home) as folder:
        out = Path(folder)
        answer(parts, ground.asked(model), out / "candidate", groups=groups)
        inputs = {"reference": ground.reference(model), "candidate": out / "candidate"}
        base = ground.baseline(model, build)
        if base is not None:
            inputs["baseline"] = base
        shows = [part for part in PARTS if groups or part != "batch"]
        judging.run(
            {"dtype": build.dtype, "method": build.method, "gates": {}, "shows": shows},
            inputs,
            out,
        )
        return parse((out / "verdict.json").read_bytes())


def tried(ground: Ground, fault: Fault, build: str) -> Row:
    """The size that must be caught in one build, then the fault's smallest, then those between."""

    def seeded(size: float) -> Row:
        right = ground.parts(fault.model, BUILDS[build])
        parts = fault.seed(right, size)
        verdict = judged(ground, parts, fault.model, BUILDS[build], int(fault.together))
        _keep(ground, f"{fault.name} {fault.unit.format(size)} {build}", verdict)
        return _row(fault, build, size, verdict)

    found = seeded(fault.sizes[0])
    if not found.caught or len(fault.sizes) == 1:
        return found
    smallest = seeded(fault.sizes[-1])
    if smallest.caught:
        return smallest
    for size in fault.sizes[1:-1]:
        row = seeded(size)
        if not row.caught:
            return replace(found, note=f"not at {row.size}")
        found = row
    return replace(found, note=f"not at {smallest.size}")


def accepted(ground: Ground, clean: Clean) -> Alarm | None:
    """A right build, judged; an alarm when it is not accepted."""
    build = BUILDS[clean.build]
    torch.set_num_threads(clean.threads)
    try:
        verdict = judged(ground, ground.parts(clean.model, build), clean.model, build, clean.groups)
    finally:
        torch.set_num_threads(1)
    _keep(ground, f"clean {clean}", verdict)
    if verdict.decision == "ACCEPT":
        return None
    return Alarm(build=str(clean), summary=verdict.summary)


def _keep(ground: Ground, name: str, verdict: Verdict) -> None:
    folder = ground.home / "verdicts"
    folder.mkdir(exist_ok=True)
    file = re.sub(r"[^\w.%]+", "-", name)
    (folder / f"{file}.json").write_text(json.dumps(verdict.to_json()), encoding="utf-8")


def _row(fault: Fault, build: str, size: float, verdict: Verdict) -> Row:
    areas = tuple(area.name for area in verdict.areas)
    by, measured, limit = _evidence(verdict)
    return Row(
        fault=fault.name,
        build=build,
        area=fault.area,
        size=fault.unit.format(size),
        decision=verdict.decision,
        areas=areas,
        by=by,
        measured=measured,
        limit=limit,
        caught=verdict.decision != "ACCEPT" and len(areas) <= 2 and fault.area in areas,
    )


def _evidence(verdict: Verdict) -> tuple[str, str, str]:
    """The failed gate that is furthest over its limit; else the first finding."""
    failed = [check for check in verdict.checks if not check.passed]
    if not failed:
        return (verdict.findings[0] if verdict.findings else "", "", "")
    worst = max(failed, key=_excess)
    measured = "none" if worst.measured is None else f"{worst.measured:.3g}"
    sign = "<=" if worst.direction == "at_most" else ">="
    return worst.metric, measured, f"{sign} {worst.limit:g}"


def _excess(check: Check) -> float:
    if check.measured is None:
        return float("inf")
    if check.direction == "at_least":
        return (1 - check.measured) / max(1 - check.limit, 1e-9)
    return check.measured / max(check.limit, 1e-9)


def home() -> Path:
    """The battery's folder in the cache; what is in it can be made anew at any time."""
    path = load_settings({}).cache_dir / "faults"
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that was tried."""

    rows: Sequence[Row]
    alarms: Sequence[Alarm]
    cleans: int
    seconds: float

    @property
    def line(self) -> str:
        """The last line."""
        caught = sum(row.caught for row in self.rows)
        missed = len(self.rows) - caught
        return f"faults: {caught} caught, {missed} missed, {len(self.alarms)} false alarms"

    @property
    def good(self) -> bool:
        """Whether everything was caught and nothing right was refused."""
        return all(row.caught for row in self.rows) and not self.alarms


def _work(task: tuple[str, str, Path]) -> Row | Alarm | None:
    """One task in a process of its own pool: a fault in a build, or a clean build by its name."""
    name, build, place = task
    torch.set_num_threads(1)
    if build:
        return tried(
            _ground(place, build), next(each for each in FAULTS if each.name == name), build
        )
    clean = next(each for each in CLEANS if str(each) == name)
    return accepted(_ground(place, clean.build), clean)


def _ground(place: Path, build: str) -> Ground:
    """FP8's gates were measured on long texts: at 20 tokens a right build's loss is noise."""
    longest = FP8_LONGEST if build == "fp8" else Ground.longest
    return _GROUNDS.setdefault((place, longest), Ground(home=place, longest=longest))


FP8_LONGEST = 96
_GROUNDS: dict[tuple[Path, int], Ground] = {}


def tasks(only: str) -> Iterator[tuple[str, str]]:
    """Every fault in each of its builds, then every clean build (with an empty second word)."""
    for fault in FAULTS:
        for build in fault.builds:
            if only in f"{fault.name} {build}":
                yield fault.name, build
    for clean in CLEANS:
        if only in f"clean {clean}":
            yield str(clean), ""


def run(only: str, jobs: int) -> Result:
    """The whole battery, or the part of it whose names hold `only`."""
    started = time.perf_counter()
    listed = [(*task, home()) for task in tasks(only)]
    prepare({(name, build) for name, build, _ in listed})
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        working = {pool.submit(_work, task): task for task in reversed(listed)}
        for each in as_completed(working):
            _say(_line(working[each][0], each.result()))
        found = [each.result() for each in reversed(working)]
    return Result(
        rows=[each for each in found if isinstance(each, Row)],
        alarms=[each for each in found if isinstance(each, Alarm)],
        cleans=sum(not build for _, build, _ in listed),
        seconds=time.perf_counter() - started,
    )


def prepare(chosen: set[tuple[str, str]]) -> None:
    """Makes every reference and baseline that the tasks need, once and before any process asks."""
    of = {fault.name: fault.model for fault in FAULTS}
    cleans = {str(clean): clean for clean in CLEANS}
    for name, build in sorted(chosen):
        model = of[name] if build else cleans[name].model
        built = build or cleans[name].build
        ground = _ground(home(), built)
        ground.reference(model)
        ground.baseline(model, BUILDS[built])


def _line(name: str, found: Row | Alarm | None) -> str:
    match found:
        case Row():
            return f"{'caught' if found.caught else 'MISSED'}  {_shown(found)}"
        case Alarm():
            return f"ALARM   {found.build}: {found.summary}"
        case None:
            return f"clean   {name}"


def _shown(row: Row) -> str:
    return (
        f"{row.fault} {row.size} [{row.build}]: {row.decision}, {', '.join(row.areas) or 'no area'}"
        f" (is {row.area}); {row.by} {row.measured} {row.limit}; {row.note}"
    )


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program: what it prints is its result


def main(arguments: Sequence[str]) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="part of a fault's name and build")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    chosen = parser.parse_args(arguments)
    result = run(chosen.only, chosen.jobs)
    if chosen.write:
        from table import write  # noqa: PLC0415 - needs git

        write(result, jobs=chosen.jobs)
    _say(result.line)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
