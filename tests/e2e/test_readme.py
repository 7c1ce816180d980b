"""What the README shows after `make demo` is run as it stands, on the real model."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from lmi import PROGRAM, SmolLM2

pytestmark = [pytest.mark.slow, pytest.mark.smollm2]

_README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_BLOCK = re.search(r"```console\n(\$ source .*?)```", _README, re.DOTALL)


def test_from_the_demo_to_an_answer(smollm2: SmolLM2, tmp_path: Path) -> None:
    assert _BLOCK is not None
    lines = [line.removeprefix("$ ") for line in _BLOCK[1].splitlines()]
    assert lines.pop(0) == "source .venv/bin/activate"
    assert lines.pop() == "kill %1"
    asked = shlex.split(lines.pop())
    serve = shlex.split(lines.pop())
    assert (asked[:3], serve[-1]) == (["curl", "localhost:8080/invocations", "-d"], "&")
    env = {**smollm2.lmi.env, "LMI_OUT": str(smollm2.lmi.home / "out")}
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "lmi-compile"
        done = subprocess.run(
            [*PROGRAM, *arguments], cwd=tmp_path, env=env, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    with subprocess.Popen(
        [*PROGRAM, *serve[1:-1], "--port", "0"],
        cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=sys.stderr,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{address}/invocations", asked[3].encode()) as answered:  # noqa: S310 - it is http
            answer = json.loads(answered.read())
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "Paris" in answer["generated_text"]
    shutil.rmtree(tmp_path / "served")
