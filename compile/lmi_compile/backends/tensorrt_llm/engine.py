"""Reads an engine directory back and holds it against the plan."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmi_artifacts.digest import JSONValue, digest_file
from lmi_compile.errors import EnvironmentFault, ToolFailed

_FIX = "build it anew in a fresh directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A whole engine directory.

    Attributes:
        directory: where it lies.
        tp: its own tensor parallel degree.
        pp: its own pipeline parallel degree.
        max_batch_size: its own.
        ranks: names of its rank files.
    """

    directory: Path
    tp: int
    pp: int
    max_batch_size: int
    ranks: tuple[str, ...]


def read_engine(directory: Path, planned: Mapping[str, JSONValue]) -> Engine:
    """The engine in `directory`, when it is whole and the planned one.

    Args:
        directory: with `config.json` and `rank{N}.engine`.
        planned: `version`, `tp_size`, `pp_size`, `quant_algo`, `kv_cache_quant_algo` and the four
            limits.

    Raises:
        EnvironmentFault: another TensorRT-LLM release built it.
        ToolFailed: a rank is missing, twice the same, or it is another engine than planned.
    """
    config = _config(directory)
    pretrained, build = config["pretrained_config"], config["build_config"]
    mapping = pretrained.get("mapping") or {}
    quantization = pretrained.get("quantization") or {}
    if config.get("version") != planned["version"]:
        raise EnvironmentFault(
            what=f"the engine was built by TensorRT-LLM {config.get('version')}",
            why=f"the toolchain is {planned['version']}, and no other version loads an engine",
            fix="run the build in the toolchain's image",
        )
    found = {
        "tp_size": mapping.get("tp_size", 1),
        "pp_size": mapping.get("pp_size", 1),
        "quant_algo": quantization.get("quant_algo"),
        "kv_cache_quant_algo": quantization.get("kv_cache_quant_algo"),
        **{
            name: build.get(name)
            for name in ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
        },
    }
    wrong = [
        f"{name}: planned {planned[name]}, built {value}"
        for name, value in found.items()
        if planned[name] != value
    ]
    if wrong:
        raise ToolFailed("the engine is not the one that was planned", "; ".join(wrong), _FIX)
    world = found["tp_size"] * found["pp_size"]
    return Engine(
        directory=directory,
        tp=found["tp_size"],
        pp=found["pp_size"],
        max_batch_size=found["max_batch_size"],
        ranks=_ranks(directory, world),
    )


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise ToolFailed("the engine has no config.json", str(directory.name), _FIX)
    loaded: dict[str, Any] = json.loads(path.read_bytes())
    if not {"pretrained_config", "build_config"} <= set(loaded):
        why = "an engine's has pretrained_config and build_config"
        raise ToolFailed("config.json is not an engine's", why, _FIX)
    return loaded


def _ranks(directory: Path, world: int) -> tuple[str, ...]:
    wanted = tuple(f"rank{rank}.engine" for rank in range(world))
    there = {path.name for path in directory.glob("rank*.engine") if path.stat().st_size}
    missing = [name for name in wanted if name not in there]
    if missing:
        why = f"{', '.join(missing)} of {world} ranks are missing or empty"
        raise ToolFailed("the engine is not whole", why, _FIX)
    beyond = sorted(there - set(wanted))
    if beyond:
        why = f"{', '.join(beyond)} are more than its {world} ranks: an older build's"
        raise ToolFailed("the engine directory is not clean", why, _FIX)
    digests: dict[str, str] = {}
    for name in wanted:
        digest = str(digest_file(directory / name))
        if digest in digests:
            why = f"{name} is byte for byte {digests[digest]}"
            raise ToolFailed("two ranks are the same file", why, _FIX)
        digests[digest] = name
    return wanted
