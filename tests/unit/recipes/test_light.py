import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
before = time.process_time()
import pydantic, yaml
start = time.process_time()
from lmi_recipes.catalog import find_recipe
from lmi_recipes.reading import read_recipe
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import load_toolchain
recipe = read_recipe(find_recipe("smollm2-135m-instruct-cpu")).recipe
load_toolchain(recipe.toolchain)
load_cpu_target(recipe.target.cpu)
ratio = (time.process_time() - start) / (start - before)
print(json.dumps({"ratio": ratio, "modules": sorted(sys.modules)}))
"""
LEFT_OUT = {
    *("difflib", "jsonschema", "importlib.metadata", "pydantic.main", "pydantic.json_schema"),
    *("numpy", "torch", "transformers", "rich", "click", "socket"),
}


def test_reading_a_recipe_costs_little_and_imports_nothing_heavy() -> None:
    child = [sys.executable, "-c", PROGRAM]
    # Without an environment: what measures coverage would be imported, too.
    runs = [json.loads(subprocess.check_output(child, env={})) for _ in range(3)]
    assert LEFT_OUT.isdisjoint(runs[0]["modules"])
    # 0.6 as measured; importing BaseModel and building its first model would add another 1.0.
    assert min(run["ratio"] for run in runs) < 1.0
