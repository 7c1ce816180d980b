"""Every command of the tutorials is run as it stands, unless it says what it would need."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from lmi import Tiny

pytestmark = pytest.mark.slow

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
_BLOCK = re.compile(
    r"(?:<!-- (?P<word>needs|exits): (?P<value>[^>]+?) -->\n)?```console\n(?P<text>.*?)```",
    re.DOTALL,
)


@dataclass(frozen=True)
class Command:
    """One `$ ` line, the exit code that it announces, and what it needs that is not here."""

    line: str
    code: int = 0
    needs: str = ""


def _commands(page: str) -> list[Command]:
    found = []
    for block in _BLOCK.finditer((TUTORIALS / page).read_text(encoding="utf-8")):
        word, value = block["word"], block["value"]
        found += [
            Command(
                line.removeprefix("$ "),
                int(value) if word == "exits" else 0,
                value if word == "needs" else "",
            )
            for line in block["text"].splitlines()
            if line.startswith("$ ")
        ]
    return found


def _follow(page: str, home: Path, env: dict[str, str]) -> int:
    run = 0
    for command in _commands(page):
        if command.needs:
            continue
        program, *arguments = shlex.split(command.line)
        assert program == "lmi-compile"
        done = subprocess.run(
            [sys.executable, "-m", "lmi_compile", *arguments],
            cwd=home,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == command.code, f"{page}: {command.line}\n{done.stderr}"
        run += 1
    return run


def test_your_own_model_and_then_its_consumer(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    tiny.make(tmp_path / "my-model")
    env = {name: value for name, value in lmi.env.items() if name != "LMI_OUT"}
    assert _follow("own-model.md", tmp_path, env) == 9
    (tmp_path / "served").rename(tmp_path / "served-first")
    assert _follow("consume.md", tmp_path, env) == 5


@pytest.mark.parametrize(("page", "runs"), [("llama-sagemaker.md", 3), ("inferentia2.md", 3)])
def test_what_can_be_planned_anywhere(page: str, runs: int, tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    assert _follow(page, tmp_path, lmi.env) == runs


def test_every_page_with_commands_is_followed() -> None:
    followed = {"own-model.md", "consume.md", "llama-sagemaker.md", "inferentia2.md"}
    assert {path.name for path in TUTORIALS.glob("*.md") if _commands(path.name)} == followed
