"""Recipes that two executors build, each with a cache and a registry of its own."""

import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lmi import Lmi

from lmi_artifacts.digest import digest_bytes

_TOOLCHAINS = Path(__file__).parents[3] / "recipes" / "lmi_recipes" / "toolchains"

# Files that hold seconds.
MEASURED = {
    *((step, "outputs.json") for step in ("reference", "baseline", "candidate")),
    ("judge", "verdict.json"),
    ("proof", "proof.json"),
}


@dataclass(frozen=True, kw_only=True)
class Built:
    """What one build left behind: the keys of its steps, and their files by digest."""

    said: Any
    steps: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]]
    ran: Mapping[str, Any]


def toolchain_with_image(
    folder: Path, source: Path | str, image: str, digest: str, name: str | None = None
) -> str:
    """A toolchain file like `source` whose steps run in `image`; returns its name."""
    path = source if isinstance(source, Path) else _TOOLCHAINS / f"{source}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["name"] = name or f"{content['name']}-in-image"
    content["image"] = {"reference": image, "digest": digest}
    folder.mkdir(exist_ok=True)
    (folder / f"{content['name']}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(content["name"])


def build(home: Path, recipe: Path | str, *arguments: str | Path, **env: str) -> Built:
    """Build `recipe` in `home`, read its cache, and put it away for the next one of this path.

    The vendors' tools write their inputs' paths into what they make: only builds in one place can
    be compared.
    """
    home.mkdir()
    ended = Lmi(home=home)(recipe, "--json", *arguments, **env)
    assert ended.code == 0, ended.err
    steps, files, ran = {}, {}, {}
    for step in (home / "cache" / "steps").iterdir():
        record = json.loads((step / "step.json").read_bytes())
        steps[record["name"]] = step.name
        ran[record["name"]] = record["ran"]
        files[record["name"]] = {
            str(path.relative_to(step / "out")): digest_bytes(path.read_bytes()).hex
            for path in sorted((step / "out").rglob("*"))
            if path.is_file()
        }
    home.rename(home.with_name(f"{home.name}-{uuid.uuid4().hex}"))
    return Built(said=ended.json(), steps=steps, files=files, ran=ran)


def same_where_it_counts(one: Built, other: Built) -> None:
    """Hold two builds against each other: keys, artifact and bytes, but for measured seconds."""
    assert one.steps == other.steps
    assert one.said["artifact"] == other.said["artifact"]
    assert one.said["decision"] == other.said["decision"]
    wrong = differing(one.files, other.files) - MEASURED
    assert not wrong, wrong


def differing(
    one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]
) -> set[tuple[str, str]]:
    """The files of two builds that differ or are missing, each with its step."""
    return {
        (step, name)
        for step in one.keys() | other.keys()
        for name in one.get(step, {}).keys() | other.get(step, {}).keys()
        if one.get(step, {}).get(name) != other.get(step, {}).get(name)
    }


def container_flags(mounts: list[Path]) -> list[str]:
    """Flags that let a container borrow this host's Python."""
    flags = ["--executor", "container"]
    for path in mounts:
        flags += ["--container-mount", str(path)]
    return flags


def path_with(tools: Path) -> str:
    """PATH with `tools` first, then this Python."""
    return f"{tools}:{Path(sys.executable).parent}:{os.defpath}"


def install_simulator(script: Path, folder: Path, **machine: object) -> Path:
    """A simulator's programs, by its own installer."""
    spec = importlib.util.spec_from_file_location("installer", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    installed: Path = module.install(folder, **machine)
    return installed
