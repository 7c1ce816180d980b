"""Ranges of activations: seen while the model reads the calibration text, kept as a file."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - imported by the calibrate and weights workers only
from safetensors.torch import load_file  # noqa: TID253 - the same

from lmi_compile.backends.aoti.runtime.tensorfile import write_tensors
from lmi_compile.backends.aoti.storing import Ranges
from lmi_compile.errors import Unsupported

_TENSORS, _NORMS, _CACHE = "ranges.safetensors", "norms.json", "cache"
_PROBE_ROWS = 3
_FOLDED = 1e-4  # of the largest logit


def read_ranges(folder: Path) -> Ranges:
    """What `write_ranges` wrote."""
    norms = json.loads((folder / _NORMS).read_bytes())
    inputs = load_file(folder / _TENSORS)
    return Ranges(cache=inputs.pop(_CACHE), inputs=inputs, norms=norms)


def write_ranges(folder: Path, ranges: Ranges) -> None:
    """Writes the two files of a calibration."""
    write_tensors(folder / _TENSORS, {**ranges.inputs, _CACHE: ranges.cache})
    text = json.dumps(dict(ranges.norms), indent=1, sort_keys=True) + "\n"
    (folder / _NORMS).write_text(text, encoding="utf-8")


def observe(model: torch.nn.Module, samples: Sequence[torch.Tensor]) -> Ranges:
    """Runs the samples (token ids `[n]` each); records every linear layer but the head, the cache.

    A norm belongs to the layers that read its output when nothing else reads it, as far as
    modules tell, and when its output is proportional to its weight: only then may a factor of the
    layers' inputs go into that weight.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]  # a transformers model
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and module is not head
    }
    watch = _Watch(model, layers)
    cached: list[torch.Tensor] = []
    with watch, torch.no_grad():
        for sample in samples:
            held = model(input_ids=sample[None], use_cache=True).past_key_values
            cached.append(_largest(held.layers))
    norms = {
        name: sorted(reading)
        for name, reading in watch.readers.items()
        if reading <= set(layers) and _is_proportional(model.get_submodule(name))
    }
    _require_that_folding_changes_nothing(model, norms, samples[0])
    return Ranges(inputs=watch.inputs, norms=norms, cache=torch.stack(cached).amax(0))


def _largest(layers: Sequence[Any]) -> torch.Tensor:
    """The largest |key| and |value| of each layer of a cache, `[layers, 2]`."""
    ends = [[layer.keys.abs().amax(), layer.values.abs().amax()] for layer in layers]
    return torch.tensor(ends, dtype=torch.float32)


class _Watch:
    """Forward hooks on the modules without children, while the context lasts.

    Attributes:
        inputs: Layer to the largest |x| of each column.
        readers: Norm to the modules that were given exactly its output.
    """

    def __init__(self, model: torch.nn.Module, layers: Mapping[str, torch.nn.Module]) -> None:
        self._model = model
        self._layers = layers
        self._made: dict[int, tuple[str, torch.Tensor]] = {}  # the tensor keeps its id its own
        self._handles: list[Any] = []
        self.inputs: dict[str, torch.Tensor] = {}
        self.readers: dict[str, set[str]] = {}

    def __enter__(self) -> None:
        for name, module in self._model.named_modules():
            if not list(module.children()):
                self._handles.append(module.register_forward_hook(partial(self._saw, name)))
        self._handles.append(self._model.register_forward_hook(self._forget))

    def __exit__(self, *_ending: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _saw(
        self, name: str, module: torch.nn.Module, given: tuple[Any, ...], result: object
    ) -> None:
        x = given[0] if given else None
        if isinstance(x, torch.Tensor):
            if name in self._layers:
                largest = x.detach().float().abs().reshape(-1, x.shape[-1]).amax(0)
                self.inputs[name] = torch.maximum(self.inputs.get(name, largest), largest)
            norm = self._made.get(id(x))
            if norm is not None:
                self.readers.setdefault(norm[0], set()).add(name)
        weight = getattr(module, "weight", None)
        if isinstance(result, torch.Tensor) and weight is not None and weight.dim() == 1:
            self._made[id(result)] = (name, result)

    def _forget(self, *_call: object) -> None:
        self._made.clear()


def _require_that_folding_changes_nothing(
    model: torch.nn.Module, norms: Mapping[str, Sequence[str]], sample: torch.Tensor
) -> None:
    """Tries it with powers of two, which lose nothing: a reader that no hook saw would show."""
    powers: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = model(input_ids=sample[None], use_cache=False).logits
        for name in norms:
            width = len(model.get_submodule(name).weight)  # type: ignore[arg-type]  # a norm's
            powers[name] = torch.randint(-1, 2, (width,), generator=generator).float().exp2()
        _fold(model, norms, powers)
        after = model(input_ids=sample[None], use_cache=False).logits
        _fold(model, norms, {name: 1 / power for name, power in powers.items()})
    if (after - before).abs().max() > _FOLDED * before.abs().max():
        what = "the smoothing of this model cannot go into its norms"
        why = "something beside linear layers reads a norm's output"
        raise Unsupported(what, why, "use smoothquant.per_token: false, or another method")


def _fold(
    model: torch.nn.Module,
    norms: Mapping[str, Sequence[str]],
    factors: Mapping[str, torch.Tensor],
) -> None:
    for name, layers in norms.items():
        for parameter in model.get_submodule(name).parameters():
            parameter.div_(factors[name])
        for layer in layers:
            model.get_submodule(layer).weight.mul_(factors[name])  # type: ignore[operator]  # a linear's


def _is_proportional(norm: torch.nn.Module) -> bool:
    """Whether twice the weight (and bias) gives twice the output: not so where 1 is added to it."""
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]  # a norm has one
    x = torch.randn(_PROBE_ROWS, len(weight), generator=torch.Generator().manual_seed(0))
    parameters = list(norm.parameters())
    with torch.no_grad():
        once = norm(x)
        for parameter in parameters:
            parameter.mul_(2)
        twice = norm(x)
        for parameter in parameters:
            parameter.div_(2)
    return torch.allclose(twice, 2 * once, rtol=1e-5, atol=1e-6)
