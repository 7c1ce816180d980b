"""What a matrix costs beside the work itself: a no-op, the overhead of a step, idle workers.

    no-op       200 recipes, everything published: CPU seconds of the whole `lmi-compile matrix`
    overhead    CPU of the scheduling process for each step on the local executor (the step is
                /bin/true, whose own CPU is not counted), and with it the floor: a bare Popen
    idle        independent sleeping steps at 2 workers: wall seconds against the ideal
    combine     10,000 combinations of one recipe planned: CPU seconds and memory of the process

Run it as `.venv/bin/python benchmarks/matrix.py [--recipes N] [--steps N] [--sleep SECONDS]`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmi_compile.executors.local import run_step
from lmi_compile.matrix.schedule import Ended, Scheduler, Task
from lmi_compile.step import Argv, Step
from lmi_compile.workspace import Staging, Workspace

NOOP_GOAL, OVERHEAD_GOAL, IDLE_GOAL, MEMORY_GOAL = 5.0, 0.030, 1.10, 500
_RECIPE = """apiVersion: lmi-compile/v1
name: {name}
model: {{id: here}}
backend: "null"
toolchain: "null"
target: {{cpu: x86-64-v2}}
shapes: {{max_input_len: 16, max_seq_len: 4096}}
"""


def main() -> int:
    """Measure and print; 1 where a goal is missed that no other process can spoil."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--sleep", type=float, default=10.0)
    parser.add_argument("--sleepers", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        noop_cpu, wall = noop(home, asked.recipes)
        print(f"no-op     {asked.recipes} recipes: {noop_cpu:.2f} s CPU, {wall:.2f} s wall "
              f"(goal: below {NOOP_GOAL} s CPU for 200)")  # fmt: skip
        ours, floor = overhead(home / "steps", asked.steps)
        print(f"overhead  {ours * 1e3:.1f} ms CPU a step, a bare Popen {floor * 1e3:.1f} ms "
              f"(goal: below {OVERHEAD_GOAL * 1e3:.0f} ms)")  # fmt: skip
        took, ideal = idle(home / "sleep", asked.sleepers, asked.sleep)
        print(f"idle      {asked.sleepers} steps of {asked.sleep:g} s at 2 workers: {took:.2f} s, "
              f"ideal {ideal:.2f} s, ratio {took / ideal:.3f} (goal: {IDLE_GOAL})")  # fmt: skip
        cpu, mebibytes = combine(home)
        print(f"combine   10,000 combinations: {cpu:.1f} s CPU, {mebibytes:.0f} MiB "
              f"(goal: below {MEMORY_GOAL} MiB)")  # fmt: skip
    return int(mebibytes >= MEMORY_GOAL or ours >= OVERHEAD_GOAL or noop_cpu >= NOOP_GOAL)


def noop(home: Path, count: int) -> tuple[float, float]:
    """CPU and wall seconds of a run in which everything is there already."""
    recipes = home / "recipes"
    recipes.mkdir()
    for number in range(count):
        name = f"recipe-{number}"
        (recipes / f"{name}.yaml").write_text(_RECIPE.format(name=name), encoding="utf-8")
    env = {**os.environ, "LMI_CACHE_DIR": str(home / "cache"), "LMI_OUT": str(home / "out")}
    argv = [sys.executable, "-m", "lmi_compile", "matrix", str(recipes), "--quiet", "-j", "2"]
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*argv, "--json"], env=env, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert {build["state"] for build in json.loads(done.stdout)["builds"]} == {"cached"}
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def overhead(root: Path, count: int) -> tuple[float, float]:
    """This process's CPU seconds for each step, from schedule to commit; and for a bare Popen."""
    began = time.process_time()
    _run(root, [Step(name=f"s{n}", run=Argv(argv=("true",))) for n in range(count)])
    ours = (time.process_time() - began) / count
    began = time.process_time()
    for _ in range(count):
        subprocess.run(["/bin/true"], check=True)
    return ours, (time.process_time() - began) / count


def idle(root: Path, count: int, seconds: float) -> tuple[float, float]:
    """Wall seconds of independent sleeping steps at 2 workers, and the least there could be."""
    began = time.monotonic()
    step = Argv(argv=("sleep", str(seconds)))
    _run(root, [Step(name=f"s{n}", run=step) for n in range(count)])
    return time.monotonic() - began, seconds * -(-count // 2)


def combine(home: Path) -> tuple[float, float]:
    """CPU seconds and MiB of planning 10,000 combinations, in a process of its own."""
    values = list(range(1, 101))
    file = home / "wide.yaml"
    matrix = f"matrix: {{shapes.max_batch_size: {values}, shapes.max_num_tokens: {values}}}\n"
    file.write_text(_RECIPE.format(name="wide") + matrix, encoding="utf-8")
    program = (
        "import json, resource, sys\nfrom lmi_compile.cli.app import run\n"
        "assert run(sys.argv[1:]) == 0\nused = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))\n"
    )
    env = {**os.environ, "LMI_CACHE_DIR": str(home / "empty"), "LMI_OUT": str(home / "out")}
    argv = [sys.executable, "-c", program, "matrix", str(file), "--dry-run", "--quiet"]
    done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
    cpu, mebibytes = json.loads(done.stdout)
    return cpu, mebibytes


def _run(root: Path, steps: list[Step]) -> None:
    """Through the scheduler, the workspace and the local executor, as a matrix does."""
    workspace = Workspace(root)
    tasks = [
        Task(name=step.name, call=_call(workspace, f"{number:064x}", step))
        for number, step in enumerate(steps)
    ]
    failed: list[Exception] = []

    def on_end(ended: Ended) -> bool:
        failed.extend([ended.error] if ended.error else [])
        return False

    Scheduler(tasks, {"jobs": 2}, on_end, lambda: None).run()
    assert not failed, failed


def _call(workspace: Workspace, key: str, step: Step):  # noqa: ANN202 - a plain closure
    def call() -> None:
        with workspace.lock(key, lambda: None):
            staging: Staging = workspace.stage(key)
            run_step(step, {}, staging, lambda _: None)
            workspace.commit(key, staging, {"name": step.name})

    return call


if __name__ == "__main__":
    sys.exit(main())
