"""Which files of a model directory matter, and whether they make a model that can be used."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from lmi_compile.errors import ModelFault
from lmi_compile.models.strict_json import read_object

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BESIDE = (
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "COPYING*",
    "USE_POLICY*",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files of a model directory that decide what the model is.

    Attributes:
        form: how the weights are kept.
        weights: names of the weight files; one for GGUF.
        beside: names of the index, configuration, tokenizer and licence files.
    """

    form: Literal["safetensors", "gguf"]
    weights: tuple[str, ...]
    beside: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted((*self.weights, *self.beside)))


def model_files(directory: Path) -> ModelFiles:
    """Finds the files that matter in `directory`; sub-directories are not looked into.

    The weights are what transformers would read: the shards that `model.safetensors.index.json`
    names, else `model.safetensors`, else the one GGUF file.

    Raises:
        ModelFault: there is no such directory, or no model in it that can be used.
    """
    if not directory.is_dir():
        raise ModelFault(
            what=f"there is no model directory {directory}",
            why="it is a file" if directory.exists() else "nothing has that path",
            fix="correct model.id; a relative path starts at the recipe's file",
        )
    present = tuple(sorted(path.name for path in directory.iterdir() if path.is_file()))
    if "adapter_config.json" in present:
        raise _unusable(
            directory,
            present,
            "it holds an adapter (adapter_config.json), not a whole model",
            "merge the adapter into its base model and save that",
        )
    beside = tuple(name for name in present if any(fnmatchcase(name, p) for p in BESIDE))
    if INDEX in present or WEIGHTS in present:
        return _safetensors(directory, present, beside)
    return _gguf(directory, present, beside)


def _safetensors(directory: Path, present: tuple[str, ...], beside: tuple[str, ...]) -> ModelFiles:
    if CONFIG not in present:
        raise _unusable(
            directory,
            present,
            "its weights have no config.json beside them",
            "copy config.json from where the weights come from",
        )
    if INDEX not in present:
        return ModelFiles(form="safetensors", weights=(WEIGHTS,), beside=beside)
    shards = tuple(sorted(set(shard_map(directory).values())))
    missing = [name for name in shards if name not in present]
    if missing:
        raise _unusable(
            directory,
            present,
            f"{INDEX} names {len(missing)} shards that are not there: {_listed(missing)}",
            "copy the missing shards; the download was not finished",
        )
    return ModelFiles(form="safetensors", weights=shards, beside=(*beside, INDEX))


def _gguf(directory: Path, present: tuple[str, ...], beside: tuple[str, ...]) -> ModelFiles:
    found = [name for name in present if name.endswith(".gguf")]
    if len(found) > 1:
        why = f"it holds {len(found)} GGUF files: {_listed(found)}"
        raise _unusable(directory, present, why, "leave the one to use in a directory of its own")
    if found:
        kept = tuple(name for name in beside if name != CONFIG)
        return ModelFiles(form="gguf", weights=(found[0],), beside=kept)
    if any(name.endswith(".safetensors") for name in present):
        why = f"it has safetensors files, but neither {WEIGHTS} nor {INDEX}"
        raise _unusable(directory, present, why, "save it again with save_pretrained()")
    if any(name.endswith(_PICKLES) for name in present):
        raise _unusable(
            directory,
            present,
            "its weights are pickles, which run code when they are read",
            "load it where it is trusted and save_pretrained() it: that writes safetensors",
        )
    why = "it has no weights: no config.json with safetensors, and no GGUF file"
    raise _unusable(directory, present, why, "name a directory that holds a model")


def shard_map(directory: Path) -> dict[str, str]:
    """Tensor name -> shard, as `model.safetensors.index.json` says.

    Raises:
        ModelFault: the index is malformed, or names something other than a file beside it.
    """
    weights = read_object(directory / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise _bad_index(directory, "it has no weight_map")
    result: dict[str, str] = {}
    for tensor, shard in weights.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or "/" in shard:
            raise _bad_index(directory, f"{tensor[:80]!r} is in {str(shard)[:80]!r}")
        result[tensor] = shard
    return result


def _bad_index(directory: Path, why: str) -> ModelFault:
    return ModelFault(
        what=f"{INDEX} is not an index of safetensors files",
        why=f"{directory / INDEX}: {why}",
        fix="copy the index from the model's source again",
    )


def _unusable(directory: Path, present: tuple[str, ...], why: str, fix: str) -> ModelFault:
    return ModelFault(
        what=f"the model directory {directory} cannot be used",
        why=f"{why}; there is: {_listed(present) or 'nothing'}",
        fix=fix,
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    rest = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown
