"""Runs the command as a user does, in a process of its own."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmi_compile.cli.app import run

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


def here(*arguments: str | Path) -> Ended:
    """Run the command in this process: for what it says, where no step is run."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = run([str(argument) for argument in arguments])
    return Ended(code=code, out=out.getvalue(), err=err.getvalue())


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

    def start(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """Start it in the background; stderr is a pipe, in a process group of its own.

        A shell that starts CI in the background lets it ignore SIGINT; this process shall not.
        """
        return subprocess.Popen(
            ["/usr/bin/env", "--default-signal=INT", *PROGRAM, *map(str, arguments)],
            cwd=self.home,
            env={**self.env, **env},
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


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A random two-layer model and what came out of building it.

    Attributes:
        lmi: the command, with a cache that holds the compiled graphs.
        built: what `--json` printed for the first build.
        said: what it said to people meanwhile.
        left: the keys of the steps that a first try had finished when it was killed.
        make: makes another model of the same architecture, with other weights.
    """

    lmi: Lmi
    built: dict[str, Any]
    said: str
    left: frozenset[str]
    make: Callable[..., Path]

    @classmethod
    def build(cls, home: Path, make: Callable[..., Path]) -> "Tiny":
        """Build it at the second try: the first is killed inside the compiler."""
        lmi = Lmi(home=home)
        make(home / "model")
        recipe = write_recipe(home / "tiny.yaml", "./model")
        killed = lmi.start(recipe.name, "--verbose")
        for line in killed.stderr or ():
            if "prefill: compiling" in line:
                break
        killed.kill()
        killed.communicate()
        left = frozenset(lmi.finished())
        ended = lmi(recipe.name, "--json")  # relative, as people write it
        assert ended.code == 0, ended.err
        return cls(lmi=lmi, built=ended.json(), said=ended.err, left=left, make=make)

    def steps(self) -> dict[str, Path]:
        """The outputs of the build's steps, by name."""
        plan = self.lmi("plan", self.lmi.home / "tiny.yaml", "--json").json()
        folder = self.lmi.home / "cache" / "steps"
        return {step["name"]: folder / step["key"] / "out" for step in plan["steps"]}

    def in_another_home(self, home: Path) -> Lmi:
        """The command with this cache and another output folder."""
        (home / "cache").symlink_to(self.lmi.home / "cache")
        return Lmi(home=home)


@dataclass(frozen=True, kw_only=True)
class SmolLM2:
    """The real model, built once.

    Attributes:
        lmi: the command.
        built: what `--json` printed.
        said: what it said to people meanwhile.
    """

    lmi: Lmi
    built: dict[str, Any]
    said: str
    recipe: str = "smollm2-135m-instruct-cpu"

    @classmethod
    def build(cls, home: Path) -> "SmolLM2":
        lmi = Lmi(home=home)
        ended = lmi(cls.recipe, "--json")
        assert ended.code == 0, ended.err
        return cls(lmi=lmi, built=ended.json(), said=ended.err)


def write_recipe(path: Path, model: str, **shapes: int) -> Path:
    """Write a recipe for a small model in a directory."""
    limits = {"max_input_len": 24, "max_seq_len": 96, **shapes}
    path.write_text(
        f"apiVersion: lmi-compile/v1\nname: {path.stem}\nmodel: {{id: {model}}}\n"
        "backend: aoti\ntoolchain: aoti-torch-2.13\ntarget: {cpu: x86-64-v3}\n"
        f"shapes: {json.dumps(limits)}\n",
        encoding="utf-8",
    )
    return path
