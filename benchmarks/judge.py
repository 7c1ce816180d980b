"""What a verdict costs: the steps `candidate` and `judge` against `compile`, in CPU seconds.

Each step runs as a build runs it, in a process of its own, with all that it needs finished before:
the golden cache is warm. CPU time is user and system time of the step's process and of all it
waited for. Goal: candidate and judge together below half of compile. Run it as
`.venv/bin/python benchmarks/judge.py [RECIPE] [--rounds N]`; the recipe's steps are made first,
in LMI_CACHE_DIR, unless they are there.
"""

import argparse
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from measure import Run, alternate, print_table

from lmi_compile.cli.options import registry_of, tools_of
from lmi_compile.console import Console
from lmi_compile.plan import Plan, make_plan
from lmi_compile.settings import load_settings
from lmi_compile.stepping import Tools, run_steps
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Staging

GOAL = 0.5
STEPS = ("compile", "candidate", "judge")


def step_cost(plan: Plan, name: str, tools: Tools) -> Run:
    """Run one step again; what it makes is thrown away."""
    step = next(planned.step for planned in plan.steps if planned.step.name == name)
    inputs = {}
    for need in step.needs:
        found = tools.workspace.find(plan.keys[need])
        assert found is not None
        inputs[need] = found
    with tempfile.TemporaryDirectory(dir=tools.workspace.staging_folder()) as folder:
        staging = Staging.at(Path(folder, "step")).create()
        before, start = _children(), time.monotonic()
        tools.execute(step, inputs, staging, lambda _: None)
        return Run(cpu=_children() - before, wall=time.monotonic() - start)


def _children() -> float:
    """User and system seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="smollm2-135m-instruct-cpu")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    settings = load_settings({})
    tools = tools_of(settings, registry_of(settings), Console(quiet=True))
    plan = make_plan(survey(load(asked.recipe), settings.cache_dir))
    run_steps(plan, "judge", tools, {})
    variants = {name: partial(step_cost, plan, name, tools) for name in STEPS}
    found = alternate(variants, asked.rounds)
    print_table(found, "compile")
    spent = {name: statistics.median(run.cpu for run in runs) for name, runs in found.items()}
    ratio = (spent["candidate"] + spent["judge"]) / spent["compile"]
    print(f"candidate and judge: {ratio:.2f} of compile; goal: below {GOAL}")


if __name__ == "__main__":
    main()
