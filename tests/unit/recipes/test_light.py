import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
import pydantic, yaml
start = time.process_time()
from lmi_recipes.catalog import find_recipe
from lmi_recipes.reading import read_recipe
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import load_toolchain
recipe = read_recipe(find_recipe("smollm2-135m-instruct-cpu")).recipe
load_toolchain(recipe.toolchain)
load_cpu_target(recipe.target.cpu)
print(json.dumps({"seconds": time.process_time() - start, "modules": sorted(sys.modules)}))
"""
LEFT_OUT = {
    *("difflib", "jsonschema", "importlib.metadata", "pydantic.main", "pydantic.json_schema"),
    *("numpy", "torch", "transformers", "rich", "click", "socket"),
}


def test_reading_a_recipe_costs_little_and_imports_nothing_heavy() -> None:
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM])) for _ in range(3)]
    assert LEFT_OUT.isdisjoint(runs[0]["modules"])
    # 60 ms is the budget; a machine under load counts more, so only twice as much fails.
    assert min(run["seconds"] for run in runs) < 0.12
