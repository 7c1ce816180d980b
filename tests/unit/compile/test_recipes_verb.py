"""`recipes search` prints names as data, and to people why each is so."""

import json

import pytest

from lmi_compile.cli.app import run
from lmi_recipes.catalog import find_recipe, why_so


def test_the_verb_prints_names_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes", "search", "null-demo"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "null-demo\n"
    assert why_so(find_recipe("null-demo")) in shown.err
    assert run(["recipes", "search", "null-demo", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {"name": "null-demo", "why": why_so(find_recipe("null-demo"))}
    assert run(["recipes", "search", "no-such-thing"]) == 2
    assert "more: lmi-compile explain E203" in capsys.readouterr().err
