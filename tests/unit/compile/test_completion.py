"""A real bash completes what a person begins; the other shells are answered the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ASK = """
source <(_LMI_COMPILE_COMPLETE=bash_source lmi-compile)
complete -p lmi-compile
COMP_WORDS=(lmi-compile "$@"); COMP_CWORD=$#
compopt() { echo "asks for: $2"; }
_lmi_compile_completion lmi-compile
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _env(folder: Path) -> dict[str, str]:
    """PATH with the command on it."""
    program = folder / "lmi-compile"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lmi_compile "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _completed(folder: Path, *words: str) -> list[str]:
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "--norc", "-c", _ASK, "bash", *words],
        env=_env(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    registered, *found = done.stdout.splitlines()
    assert registered == "complete -o nosort -F _lmi_compile_completion lmi-compile"
    assert not done.stderr
    return found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["pla"], ["plan"]),
        (["smollm2-135m-instruct-cpu-b"], ["smollm2-135m-instruct-cpu-batch8",
                                           "smollm2-135m-instruct-cpu-bfloat16"]),
        (["plan", "null"], ["null-demo"]),
        (["verify", "x", "--against", "null"], ["null-demo"]),
        (["null-demo", "--offl"], ["--offline"]),
        (["build", "--executor", "ra"], ["ray", "ray+container"]),
        (["recipes", "se"], ["search"]),
        (["plan", "./my"], ["asks for: default", ""]),
    ],
)  # fmt: skip
def test_bash_completes_verbs_recipes_options_and_files(
    words: list[str], found: list[str], tmp_path: Path
) -> None:
    assert _completed(tmp_path, *words) == found


@pytest.mark.parametrize(("shell", "answer"), [("zsh", "plain\nplan\n"), ("fish", "plain,plan\t")])
def test_other_shells_are_answered(shell: str, answer: str, tmp_path: Path) -> None:
    def ask(word: str) -> str:
        asked = {"COMP_WORDS": "lmi-compile pla", "COMP_CWORD": "pla" if shell == "fish" else "1"}
        return subprocess.run(
            ["lmi-compile"],  # noqa: S607 - found on the PATH that the shell would have
            env={**_env(tmp_path), **asked, "_LMI_COMPILE_COMPLETE": f"{shell}_{word}"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert answer in ask("complete")
    assert "_LMI_COMPILE_COMPLETE" in ask("source")
