"""`plan` in CPU seconds: 100 plans in one process, and one recipe from process start.

Goals: 100 plans in under 1.5 CPU seconds; one recipe below 3 times the CPU of `import click,
pydantic, yaml`; torch, transformers and numpy never imported. The catalogue's recipes are repeated
over instance types and degrees until there are 100. Run it as
`.venv/bin/python benchmarks/plan.py [--rounds N]`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from measure import alternate, print_table, run

from lmi_recipes.instance import instance_names

RECIPES = ("llama-2-7b-float16-tp1-g5.2xlarge", "smollm2-135m-instruct-cpu")
PLANS = 100
MOST_SECONDS = 1.5

MANY = """
import json, sys, time
from pathlib import Path
began = time.process_time()
from lmi_compile.preview import preview
from lmi_compile.survey import load
cache = Path(sys.argv[1])
for recipe, overrides in json.load(sys.stdin):
    preview(load(recipe, tuple(overrides)), cache).to_json()
spent = time.process_time() - began
heavy = sorted({"torch", "transformers", "numpy"} & set(sys.modules))
print(json.dumps({"seconds": spent, "heavy": heavy}))
"""


def _asked() -> list[tuple[str, list[str]]]:
    """The recipes, the Llama one over every instance type and two degrees."""
    machines = [
        (RECIPES[0], [f"target.instance_type={name}", f"tensor_parallel_degree={degree}"])
        for degree in (1, 4)
        for name in instance_names()
    ]
    own: list[tuple[str, list[str]]] = [(name, []) for name in RECIPES]
    mixed = [one for pair in zip(machines, cycle(own), strict=False) for one in pair]
    return list(islice(mixed, PLANS))


def many(cache: Path) -> dict[str, object]:
    """100 plans in one fresh process: CPU seconds with the imports, and what it imported."""
    ended = subprocess.run(
        [sys.executable, "-c", MANY, str(cache)],
        input=json.dumps(_asked()), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        env = {**os.environ, "LMI_CACHE_DIR": name}
        found = [many(Path(name)) for _ in range(asked.rounds)]
        seconds = sorted(float(str(one["seconds"])) for one in found)
        print(f"{PLANS} plans in one process, with imports: median {seconds[len(seconds) // 2]:.2f}"
              f" CPU s of {MOST_SECONDS} allowed; heavy imports: {found[0]['heavy']}")  # fmt: skip
        program = [sys.executable, "-m", "lmi_compile", "plan", "--quiet"]
        base = [sys.executable, "-c", "import click, pydantic, yaml"]
        table = alternate(
            {
                "import click, pydantic, yaml": partial(run, base, env),
                **{recipe: partial(run, [*program, recipe], env) for recipe in RECIPES},
            },
            asked.rounds,
        )
    print_table(table, "import click, pydantic, yaml")
    print("goal: each plan below 3 times the CPU of the imports")


if __name__ == "__main__":
    main()
