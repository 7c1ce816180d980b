"""Runs the command as a user does, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "lmi_compile"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON value on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


@dataclass(frozen=True, kw_only=True)
class Lmi:
    """The command with a cache, a config and an output folder of its own."""

    home: Path

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LMI_")}
        return {
            **kept,
            "LMI_CACHE_DIR": str(self.home / "cache"),
            "LMI_CONFIG": str(self.home / "config.toml"),
            "LMI_OUT": str(self.home / "out"),
        }

    @property
    def registry(self) -> Path:
        return self.home / "out" / "registry"

    def __call__(self, *arguments: str | Path, **env: str) -> Ended:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.home,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start it in the background; stderr is a pipe, in a process group of its own."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finished(self) -> set[str]:
        """The keys of all finished steps."""
        folder = self.home / "cache" / "steps"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def artifacts(self) -> list[str]:
        """What the registry lists."""
        return self("list").out.splitlines()
