"""The weights step: the checkpoint's tensors under the names and in the type the graphs want."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - the worker's own process imports this module
from safetensors import SafetensorError, safe_open  # noqa: TID253 - the same

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.forms import read_form
from lmi_compile.backends.aoti.fused import renamed, stacks
from lmi_compile.backends.aoti.parallel import BUILD, DEGREE, WHOLE, Split, read_split, shard_name
from lmi_compile.backends.aoti.progress import say
from lmi_compile.backends.aoti.ranges import read_ranges
from lmi_compile.backends.aoti.runtime.tensorfile import stream_tensors
from lmi_compile.backends.aoti.storing import DERIVED, Quantiser, Ranges
from lmi_compile.errors import ModelFault

_INDEX = "model.safetensors.index.json"
_SHOWN = 6
_FLOATS = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `weights.safetensors`, or a file for each rank, one tensor in memory at a time.

    Args:
        params: `alpha`, where activations are smoothed; `graphs.json` says each tensor's type.
        inputs: `model` (a Hugging Face directory), `compile` (with `graphs.json`) and, for forms
            that need ranges, `calibrate`.
        out: Receives `weights.safetensors`; of a split model `weights-0-of-3.safetensors` and so
            on, which name their rank and build, and `build.txt`.

    Raises:
        ModelFault: Tensors are missing, too many, of another shape, not finite, or unreadable.
    """
    alpha = params.get("alpha")
    described = json.loads((inputs["compile"] / "graphs.json").read_bytes())
    wanted: dict[str, dict[str, Any]] = described["tensors"]["weights.safetensors"]
    dtypes: dict[str, torch.dtype] = {
        name: getattr(torch, tensor["dtype"]) for name, tensor in wanted.items()
    }
    splits = {name: read_split(split) for name, split in described["parallel"]["splits"].items()}
    with ExitStack() as stack:
        checkpoint = _Checkpoint(stack, inputs["model"])
        stored = {name for name in wanted if not name.endswith(DERIVED)}
        sources = _assign(checkpoint, stored, described["tied"], described["ignored"])

        def read(name: str) -> torch.Tensor:
            *rows, columns = splits[name].full if splits else wanted[name]["shape"]
            if dtypes[name] == torch.uint8:  # two numbers in a byte
                columns *= 2
            return checkpoint.read(sources[name], [*rows, columns], torch.float32)

        quantiser = Quantiser(
            read=read,
            form=read_form(described["quantization"]),
            ranges=read_ranges(inputs["calibrate"]) if "calibrate" in inputs else Ranges(),
            stored=dtypes,
            alpha=alpha if isinstance(alpha, float) else None,
        )
        names = sorted(wanted)
        layout = [(name, dtypes[name], list(wanted[name]["shape"])) for name in names]
        say(f"{len(names)} tensors to {described['dtype']}")
        degree: int = described["model"][DEGREE]
        build = None if degree == 1 else _build_id(inputs)
        for rank in range(degree):
            stream_tensors(
                out / shard_name(rank, degree),
                layout,
                lambda name, rank=rank: piece(  # type: ignore[misc]  # mypy has no lambda defaults
                    quantiser.tensor(name, dtypes[name]), splits.get(name, WHOLE), rank, degree
                ),
                None if build is None else {"build": build, "rank": str(rank)},
            )
    if build is not None:
        (out / BUILD).write_text(build + "\n", encoding="ascii")


def piece(whole: torch.Tensor, split: Split, rank: int, degree: int) -> torch.Tensor:
    """What one rank stores of a tensor: the same shape for each, padded with zeros at the end.

    Args:
        whole: The checkpoint's, of any shape.
        split: Along which axis it is cut, if any.
        rank: Whose, from 0.
        degree: How many ranks there are.
    """
    if split.axis is None:
        return torch.zeros_like(whole) if split.first_only and rank else whole
    size = -(-whole.shape[split.axis] // split.parts)
    start = size * (rank * split.parts // degree)
    held = min(size, max(0, whole.shape[split.axis] - start))
    part = whole.narrow(split.axis, min(start, whole.shape[split.axis] - held), held)
    if held == size:
        return part
    padded = list(whole.shape)
    padded[split.axis] = size - held
    return torch.cat([part, part.new_zeros(padded)], split.axis)


def merged(pieces: Sequence[torch.Tensor], split: Split) -> torch.Tensor:
    """The whole tensor of all ranks' pieces, which `piece` made, in the order of the ranks."""
    if split.axis is None:
        return pieces[0]
    whole = torch.cat(list(pieces[:: len(pieces) // split.parts]), split.axis)
    return whole.narrow(split.axis, 0, split.full[split.axis])


def _build_id(inputs: Mapping[str, Path]) -> str:
    """What shards of one build have in common: the digest of the graphs and of all weights."""
    digest = hashlib.sha256((inputs["compile"] / "graphs.json").read_bytes())
    for path in _files(inputs["model"]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class _Checkpoint:
    """The safetensors files of a model directory, opened."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.files: dict[str, Any] = {}
        for path in _files(folder):
            try:
                opened = stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                what = f"{path.name} cannot be read as safetensors"
                raise ModelFault(what, str(error), "fetch the model again") from error
            self.files |= dict.fromkeys(opened.keys(), opened)
        self._stored = dict(self.files)
        self._stacks = stacks(self._stored)
        for whole, experts in self._stacks.items():
            for part in (part for parts in experts for part in parts):
                del self.files[part]
            self.files[whole] = None
        self._names = {renamed(name): name for name in self.files}
        self.files = {name: self.files[stored] for name, stored in self._names.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor as it is stored, the experts of a mixture stacked."""
        if name in self._stacks:
            experts = [torch.cat([self._get(one) for one in part]) for part in self._stacks[name]]
            return torch.stack(experts)
        return self._get(self._names[name])

    def _get(self, stored: str) -> torch.Tensor:
        tensor: torch.Tensor = self._stored[stored].get_tensor(stored)
        return tensor

    def read(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """The tensor in `dtype`, after checking its type, its shape and every number."""
        tensor = self.tensor(name)
        if tensor.dtype not in _FLOATS:
            what = f"{name} holds {tensor.dtype}, which is not a floating point type"
            raise ModelFault(what, "", "use the unquantised checkpoint")
        if list(tensor.shape) != list(shape):
            what = f"{name} has shape {list(tensor.shape)}, the configuration says {list(shape)}"
            raise ModelFault(what, "", "use the config.json that belongs to these weights")
        cast = tensor.to(dtype)
        if not bool(torch.isfinite(cast).all()):
            found = "NaN" if bool(torch.isnan(tensor).any()) else "infinite or too large a number"
            what = f"{name} holds {found}"
            raise ModelFault(what, "", "use a checkpoint whose weights are finite")
        return cast

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors are equal."""
        return torch.equal(self.tensor(one), self.tensor(other))


def _files(folder: Path) -> Iterator[Path]:
    """The weight files, each once: those of the index, or the single one."""
    index = folder / _INDEX
    if not index.is_file():
        single = folder / "model.safetensors"
        if not single.is_file():
            what = "the model directory has no model.safetensors"
            raise ModelFault(what, f"looked in {folder}", "save the model as safetensors")
        yield single
        return
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFault(f"{_INDEX} cannot be read", str(error), "fetch the model again") from error
    for shard in shards:
        path = folder / str(shard)
        if path.parent != folder or not path.is_file():
            what = f"{_INDEX} names {shard}, which is not in the model directory"
            raise ModelFault(what, "", "fetch the model again")
        yield path


def _assign(
    checkpoint: _Checkpoint,
    wanted: Collection[str],
    tied: Mapping[str, str],
    ignored: Sequence[str],
) -> dict[str, str]:
    """For each wanted tensor the checkpoint's name for it; refuses what does not add up."""
    aliases: dict[str, str] = {}
    for alias, name in tied.items():
        if alias not in checkpoint.files or name not in wanted:
            continue
        if name in checkpoint.files and not checkpoint.same(alias, name):
            what = f"the configuration ties {alias} to {name}, and the checkpoint has two tensors"
            raise ModelFault(what, "", "set tie_word_embeddings to false in config.json")
        aliases[name] = alias
    sources = {name: name if name in checkpoint.files else aliases.get(name) for name in wanted}
    missing = [name for name, source in sources.items() if source is None]
    if missing:
        what = f"the checkpoint lacks {_some(missing)}"
        raise ModelFault(what, "the graphs want them", "use the config.json of these weights")
    patterns = [re.compile(pattern) for pattern in (*ignored, r"rotary_emb\.inv_freq$")]
    known = {*wanted, *tied}
    extra = [
        name
        for name in checkpoint.files
        if name not in known and not any(pattern.search(name) for pattern in patterns)
    ]
    if extra:
        what = f"the checkpoint holds tensors that the graphs do not read: {_some(extra)}"
        raise ModelFault(what, "", "use the config.json of these weights")
    return {name: source for name, source in sources.items() if source is not None}


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
