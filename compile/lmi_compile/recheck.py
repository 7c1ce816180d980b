"""Verify a tree that is already there, with the steps that a build uses."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.events import StepLine
from lmi_compile.pipeline import Tools, run_steps
from lmi_compile.plan import Plan
from lmi_compile.step import Step
from lmi_compile.workspace import Staging


def verify_tree(plan: Plan, tree: Path, tools: Tools) -> dict[str, JSONValue]:
    """Judge the served tree at `tree` against the reference of `plan`'s model.

    The reference is taken from the workspace; the candidate's outputs and the verdict are made
    anew and kept nowhere, since a tree on disk has no key.
    """
    reference = run_steps(plan, "reference", tools, {})["reference"]
    steps = {planned.step.name: planned.step for planned in plan.steps}
    candidate = _run(steps["candidate"], {"package": tree, "reference": reference}, tools)
    try:
        judged = _run(steps["judge"], {"reference": reference, "candidate": candidate}, tools)
        verdict: dict[str, JSONValue] = json.loads((judged / "verdict.json").read_bytes())
        shutil.rmtree(judged.parent)
    finally:
        shutil.rmtree(candidate.parent, ignore_errors=True)
    return verdict


def _run(step: Step, inputs: Mapping[str, Path], tools: Tools) -> Path:
    root = Path(tempfile.mkdtemp(dir=tools.workspace.staging_folder()))
    staging = Staging(root=root, out=root / "out", log=root / "log.txt")
    staging.out.mkdir()
    (root / "tmp").mkdir()
    tools.execute(
        replace(step, local_inputs={}),
        inputs,
        staging,
        lambda text: tools.emit(StepLine(name=step.name, text=text)),
    )
    return staging.out
