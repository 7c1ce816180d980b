"""What a full cache hit of `lmi-compile RECIPE` costs, against importing its own libraries.

The limit is the CPU time of `python -c "import click, pydantic, yaml"`; the goal is below 2.5
times that. Run it as `.venv/bin/python benchmarks/noop.py [RECIPE] [--rounds N]`; the recipe is
built first, in a registry and a cache of its own unless LMI_CACHE_DIR says otherwise.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure import alternate, print_table, run

GOAL = 2.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="null-demo")
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "LMI_OUT": folder}
        env.setdefault("LMI_CACHE_DIR", str(Path(folder, "cache")))
        build = [str(Path(sys.executable).with_name("lmi-compile")), asked.recipe]
        run(build, env)
        libraries = [sys.executable, "-c", "import click, pydantic, yaml"]
        found = alternate(
            {
                "import click, pydantic, yaml": partial(run, libraries, env),
                f"cached: lmi-compile {asked.recipe}": partial(run, build, env),
            },
            asked.rounds,
            warm_up=2,
        )
    print_table(found, "import click, pydantic, yaml")
    print(f"goal: the second row's ratio is below {GOAL}")


if __name__ == "__main__":
    main()
