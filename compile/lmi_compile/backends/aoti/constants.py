"""What a compiled graph wants at load time, by the names of the Hugging Face checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch  # noqa: TID253 - imported by the compile worker only
from transformers import PreTrainedModel  # noqa: TID253 - the same

from lmi_compile.backends.aoti.export import Exported
from lmi_compile.backends.aoti.forms import GROUP
from lmi_compile.backends.aoti.runtime.device import CPU, open_library
from lmi_compile.errors import OurBug, Unsupported

_WRAPPER = "model."  # Prefill and Decode hold the model under this name
_PACKED = ".packed"  # a layer's weight as a kernel holds it; stored as `.weight`

# Inductor's lowering of a 4-bit product makes the width of a group a constant of its own, int64.
_GROUP_NAME, _INT64 = "int4_group", 4


@dataclass(slots=True)
class Constants:
    """All tensors that the graphs of one package read.

    Attributes:
        device: where the graphs run.
        weights: checkpoint name to parameter; only shapes and types mean anything.
        others: name to a tensor with its value, such as rotary frequencies.
        maps: graph to (name in the library to name in `weights` or `others`).
        packed: name of what the loader makes for a kernel, to the name in `weights` of its source
            and the kernel's: `onednn` (8 bits, source transposed) or `int4`.
    """

    device: torch.device = CPU
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    packed: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, graph: str, exported: Exported, library: Path, names: Mapping[int, str]) -> None:
        """Takes over what `library`, compiled from `exported`, names.

        Args:
            graph: `prefill`, `decode` or `decode_one`.
            exported: Holds the tensors.
            library: Asked for the constants that survived compilation.
            names: From `checkpoint_names`.

        Raises:
            Unsupported: A weight is so small that its (meaningless) numbers were compiled in.
        """
        runner = open_library(str(library), self.device)
        held = {**dict(exported.program.state_dict), **dict(exported.program.constants)}
        named = runner.get_constant_names_to_original_fqns()
        wanted = sorted(named.values())
        types = {named[key]: kind for key, kind in runner.get_constant_names_to_dtypes().items()}
        _refuse_inlined_weights(exported, set(wanted))
        grouped = any("int4pack" in str(node.target) for node in exported.program.graph.nodes)
        mapped: dict[str, str] = {}
        for name in wanted:
            tensor = held.get(name)
            if tensor is None and types[name] == _INT64 and grouped:
                mapped[name] = _GROUP_NAME
                self.others[_GROUP_NAME] = torch.tensor(GROUP)
                continue
            if not isinstance(tensor, torch.Tensor):
                what = f"graph {graph} wants a constant that nothing holds: {name}"
                raise OurBug(what, "", "report it with the step's log")
            mapped[name] = self._place(graph, name, tensor, names)
        self.maps[graph] = mapped

    def _pack(self, name: str, tensor: torch.Tensor) -> str:
        source = name.removesuffix(_PACKED) + ".weight"
        four_bits = tensor.dtype == torch.uint8
        self.packed[name] = {"source": source, "kernel": "int4" if four_bits else "onednn"}
        self.weights[source] = tensor if four_bits else tensor.t()
        return name

    def _place(self, graph: str, name: str, tensor: torch.Tensor, names: Mapping[int, str]) -> str:
        known = names.get(tensor.data_ptr())
        if known is not None and known.endswith(_PACKED):
            return self._pack(known, tensor)
        if known is not None and tensor.numel():
            self.weights[known] = tensor
            return known
        short = name.removeprefix(_WRAPPER)
        before = self.others.setdefault(short, tensor)
        if torch.equal(before, tensor):
            return short
        own = f"{graph}:{short}"
        self.others[own] = tensor
        return own


def checkpoint_names(model: PreTrainedModel) -> dict[int, str]:
    """Address of each stored tensor to the one name that checkpoints keep it under."""
    tied = set(tied_names(model))
    return {tensor.data_ptr(): name for name, tensor in _stored(model) if name not in tied}


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Names that are the same tensor as another name: `lm_head.weight` to the embedding."""
    by_address: dict[int, str] = {}
    tied: dict[str, str] = {}
    aliases = set(getattr(model, "all_tied_weights_keys", None) or {})
    for name, tensor in sorted(_stored(model), key=lambda item: item[0] in aliases):
        first = by_address.setdefault(tensor.data_ptr(), name)
        if first != name:
            tied[name] = first
    return tied


def _refuse_inlined_weights(exported: Exported, wanted: set[str]) -> None:
    """Inductor may write vectors of up to 8 numbers into the code instead of asking for them."""
    signature = exported.program.graph_signature
    read = {
        node.name
        for node in exported.program.graph.nodes
        if node.op == "placeholder" and node.users
    }
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lost = sorted(
        name
        for placeholder, name in stored.items()
        if placeholder in read
        and name not in wanted
        and name not in signature.non_persistent_buffers
    )
    if lost:
        what = "the aoti backend cannot compile this model from its configuration alone"
        why = f"these weights are so small that the compiler inlines them: {', '.join(lost)}"
        raise Unsupported(what, why, "use another backend")


def _stored(model: PreTrainedModel) -> list[tuple[str, torch.Tensor]]:
    """Every name that a checkpoint may keep, tied ones too."""
    kept = set(model.state_dict())
    buffers = model.named_buffers(remove_duplicate=False)
    return [
        *model.named_parameters(remove_duplicate=False),
        *((name, tensor) for name, tensor in buffers if name in kept),
    ]
