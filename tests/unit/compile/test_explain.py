"""Every error that the rooms raise has a code, and every code a page."""

import importlib
import inspect
import json

import click
import pytest

from lmi_artifacts.errors import ArtifactNotFound, ArtifactRevoked, RegistryTransient
from lmi_compile.cli.app import run
from lmi_compile.errors import EnvironmentFault, OurBug, exit_code_of
from lmi_compile.explain import _CODES, code_of, explained_codes, explanation

ROOMS = ("lmi_artifacts", "lmi_compile", "lmi_recipes", "lmi_verify")
WITHOUT_A_CLASS = {"E901": "part of a matrix: an exit code, not an exception"}


def _kinds() -> list[type[Exception]]:
    modules = [importlib.import_module(f"{room}.errors") for room in ROOMS]
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.__name__)
def test_the_code_of_every_kind_begins_with_its_exit_code(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if kind.__name__.endswith("Error"):
        return  # a base is never raised itself
    exit_code = 0 if exit_code_of(error) == 1 else int(exit_code_of(error))
    assert int(code_of(error)[1:]) // 100 == exit_code, code_of(error)


def test_codes_and_pages_are_the_same_set() -> None:
    assert set(explained_codes()) == set(_CODES.values()) | WITHOUT_A_CLASS.keys()


@pytest.mark.parametrize("code", explained_codes())
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    title, *rest = explanation(code).splitlines()
    assert title.startswith(f"# {code}: ")
    assert "## Usual causes" in rest
    assert "## What to do" in rest
    assert rest[-1].startswith("- ")


def test_the_nearest_kind_decides() -> None:
    assert code_of(ArtifactRevoked("x", ["y"])) == "E1003"
    assert code_of(ArtifactNotFound("x", "y")) == "E1001"
    assert code_of(RegistryTransient("x", "y")) == "E7501"
    assert code_of(ValueError("x")) == code_of(OurBug("x")) == "E001"
    assert code_of(click.UsageError("x")) == "E210"
    assert code_of(EnvironmentFault("x")) == "E801"


def test_the_verb_prints_one_page_a_family_or_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "e401"]) == 0
    assert capsys.readouterr().out.startswith("# E401: ")
    assert run(["explain", "3"]) == 0
    assert capsys.readouterr().out.count("# E30") == 5
    assert run(["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(explained_codes())
    assert run(["explain", "E601", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["E601"]


def test_a_code_that_is_not_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "../../etc/passwd"]) == 2
    assert "no error has the code" in capsys.readouterr().err


def test_an_error_ends_with_where_to_read_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "no-such-recipe-anywhere"]) == 2
    assert capsys.readouterr().err.endswith("more: lmi-compile explain E203\n")
