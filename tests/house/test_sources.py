"""A code change cannot hit an old result: what a step runs is in its key, all of it."""

import ast

import pytest

from lmi_compile.keys import module_file, path_of, source_closure
from lmi_compile.plan import make_plan
from lmi_compile.settings import load_settings
from lmi_compile.step import Call
from lmi_compile.survey import load, survey

ROOMS = ("lmi_compile", "lmi_recipes", "lmi_artifacts", "lmi_verify")


def _calls() -> set[str]:
    cache = load_settings({}).cache_dir
    return {
        planned.step.run.function.partition(":")[0]
        for recipe in (
            "null-demo",
            "smollm2-135m-instruct-cpu-smoothquant",
            "llama-2-7b-inf2-tp2",
            "llama-2-7b-inf2-lmi",
            "bert-large-inf2-b1-s128",
        )
        for planned in make_plan(survey(load(recipe), cache)).steps
        if isinstance(planned.step.run, Call)
    }


def _walk(module: str) -> set[str]:
    """The import closure by syntax trees: slower than the product's, and independent of it."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = module_file(name) if name.partition(".")[0] in ROOMS else None
        if path is None or path in seen:
            continue
        seen.add(path)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        for node in ast.walk(ast.parse(path_of(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
                waiting += [f"{node.module}.{alias.name}" for alias in node.names]
    return seen


@pytest.mark.parametrize("module", sorted(_calls()))
def test_the_light_reader_finds_all_that_a_syntax_tree_does(module: str) -> None:
    assert set(source_closure(module)) >= _walk(module)
    assert module_file(module) in source_closure(module)
