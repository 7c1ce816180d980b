"""What a person sees in a real terminal, kept as text: `LMI_SNAPSHOTS=write` writes it anew."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
    tmux = [shutil.which("tmux") or "tmux", "-L", f"lmi-{os.getpid()}-{width}", "-f", "/dev/null"]
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
