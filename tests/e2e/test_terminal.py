"""What a person sees in a real terminal, kept as text: `LMI_SNAPSHOTS=write` writes it anew."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from lmi_compile.cli.matrix_view import _end

pytestmark = pytest.mark.slow

SNAPSHOTS = Path(__file__).parents[1] / "golden" / "terminal"
_ROWS = 120
_END = "-- the command has ended --"
CASES = {
    "plan": "plan llama-2-7b-inf2-tp2",
    "impossible": "plan llama-2-7b-inf2-tp2 --set quantization.method=smoothquant",
    "misspelt": "plan llama-2-7b-inf2-tp",
    "explain": "explain E501",
}


def _seen(command: str, width: int, home: Path) -> str:
    """The screen of a tmux terminal after the command has ended."""
    tmux = [shutil.which("tmux") or "tmux", "-L", f"lmi-{uuid.uuid4().hex}", "-f", "/dev/null"]
    program = f"{shlex.quote(sys.executable)} -m lmi_compile {command}"
    script = f"cd {shlex.quote(str(home))}; {program}; echo '{_END}'; sleep 600"
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    env = {**kept, "LMI_CACHE_DIR": str(home / "cache"), "LANG": "C.UTF-8"}
    size = ["-x", str(width), "-y", str(_ROWS)]
    subprocess.run([*tmux, "new-session", "-d", *size, script], check=True, env=env)
    try:
        capture = [*tmux, "capture-pane", "-p", "-J"]
        shown, deadline = "", time.monotonic() + 300
        while _END not in shown:
            assert time.monotonic() < deadline, f"{command} did not end"
            time.sleep(0.1)
            done = subprocess.run(capture, check=True, env=env, capture_output=True, text=True)
            shown = done.stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, env=env, capture_output=True)
    lines = shown.partition(_END)[0].splitlines()
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _without_keys(screen: str) -> str:
    """Keys differ by code and machine; the number of catalogue recipes grows."""
    screen = re.sub(r"\b[0-9a-f]{64}\b", "<key>", screen)
    return re.sub(r"\b[0-9a-f]{12}\b", "<key 12>....", screen)


def test_a_matrix_leaves_its_results_and_nothing_of_its_live_table(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(
        "apiVersion: lmi-compile/v1\nname: a-name-that-is-as-long-as-those-of-the-catalogue-are\n"
        'model: {id: here}\nbackend: "null"\ntoolchain: "null"\ntarget: {cpu: x86-64-v2}\n'
        "shapes: {max_input_len: 16, max_seq_len: 32}\n",
        encoding="utf-8",
    )
    screen = _seen("matrix long.yaml", 60, tmp_path)
    lines = screen.splitlines()
    assert "a-name-that-is-as-long-as-those-of-the-catalogue-are: built;" in lines
    assert "1 builds: 1 built" in lines
    assert not [line for line in lines if line.startswith("running")]
    assert not [line for line in lines if len(line) > 60 and " " in line.strip()]


def test_of_a_name_too_long_for_the_live_table_the_end_is_shown() -> None:
    assert _end("build: compile", 14) == "build: compile"
    assert _end("a-long-build: compile", 10) == "…: compile"


@pytest.mark.parametrize("width", [60, 200])
@pytest.mark.parametrize("case", CASES)
def test_a_screen_is_as_it_was(case: str, width: int, tmp_path: Path) -> None:
    screen = _seen(CASES[case], width, tmp_path)
    kept = SNAPSHOTS / f"{case}-{width}.txt"
    if os.environ.get("LMI_SNAPSHOTS") == "write":
        kept.write_text(_without_keys(screen), encoding="utf-8")
    assert _without_keys(screen) == kept.read_text(encoding="utf-8")
    too_wide = [line for line in screen.splitlines() if len(line) > width and " " in line.strip()]
    assert not too_wide, "a line of several words is cut by the terminal's edge"
