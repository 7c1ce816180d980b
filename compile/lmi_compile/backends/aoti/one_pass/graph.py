"""The one graph of a one-pass model: built from its configuration alone, and traced."""

from collections.abc import Mapping
from typing import Any

import torch  # noqa: TID253 - imported by the compile worker only
import transformers  # noqa: TID253 - the same
from torch.export import Dim  # noqa: TID253 - the same
from transformers.initialization import no_init_weights  # noqa: TID253 - the same

from lmi_compile.backends.aoti.export import Exported
from lmi_compile.errors import ModelFault, Unsupported
from lmi_verify.one_pass.heads import Head

_EXAMPLE_ROWS, _EXAMPLE_LENGTH = 3, 5
_FIX = "use another backend"


class OnePass(torch.nn.Module):
    """`(inputs) -> output` in float32, of a batch.

    Texts: `input_ids`, `attention_mask` and where the model has them `token_type_ids`, int64
    `[B, T]`; a masked position changes no other one. Pictures: `pixel_values`, float32
    `[B, C, H, W]`.
    """

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...], output: str) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.output = output

    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """The head's output, float32: `[B, labels]`, or `[B, T, n]` where every token has one."""
        found = self.model(**dict(zip(self.names, inputs, strict=True)))
        out: torch.Tensor = getattr(found, self.output).float()
        return out


def build(config: Mapping[str, Any], head: Head) -> transformers.PreTrainedModel:
    """The model on the CPU in eval mode, with weights that mean nothing.

    Args:
        config: A config.json, with `num_labels` where the head has labels.
        head: What of it is used.

    Raises:
        ModelFault: transformers cannot read the configuration.
        Unsupported: transformers has no such head for it, or cannot build it.
    """
    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        what = f"config.json names no model type that transformers knows: {kind!r}"
        raise ModelFault(what, "", "correct model_type in config.json")
    try:
        parsed = transformers.CONFIG_MAPPING[kind].from_dict(dict(config))
    except Exception as error:
        what = "transformers cannot read config.json"
        raise ModelFault(what, str(error), "correct the configuration") from error
    try:
        with no_init_weights():
            model: transformers.PreTrainedModel = getattr(transformers, head.loader).from_config(
                parsed, dtype=torch.float32
            )
        model.tie_weights()  # part of the initialisation that was left out
    except Exception as error:
        what = f"transformers cannot build {kind} with {head.loader}"
        raise Unsupported(what, str(error), _FIX) from error
    if head.name == "embedding" and hasattr(model, "pooler"):
        model.pooler = None  # embeddings come from the hidden states; BERT's pooler is not theirs
    _fill(model)
    return model.eval()


def _fill(model: torch.nn.Module) -> None:
    """Numbers without a pattern, so that nothing is folded away as all zeros or all ones."""
    generator = torch.Generator().manual_seed(0)
    kept = set(model.state_dict())
    named = [*model.named_parameters(), *model.named_buffers()]
    with torch.no_grad():
        for name, tensor in named:
            if name in kept and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def export(
    model: transformers.PreTrainedModel,
    head: Head,
    names: tuple[str, ...],
    limits: Mapping[str, Any],
) -> Exported:
    """Traces the graph with a dynamic batch and, for texts, a dynamic length.

    Args:
        model: From `build`.
        head: Its head.
        names: The inputs, in their order.
        limits: `max_batch_size`; `max_input_len`, or `picture` (channels, height, width).

    Raises:
        Unsupported: It does not trace.
    """
    most = int(limits["max_batch_size"])
    rows = min(_EXAMPLE_ROWS, most)
    batch = {0: Dim("B", min=1, max=most)} if most > 1 else {}
    generator = torch.Generator().manual_seed(1)
    if head.reads == "text":
        longest = int(limits["max_input_len"])
        example = [torch.ones(rows, min(_EXAMPLE_LENGTH, longest), dtype=torch.int64)] * len(names)
        example = [each.clone() for each in example]
        shape: dict[int, object] = {**batch, 1: Dim("T", min=1, max=longest)}
    else:
        example = [torch.rand(rows, *limits["picture"], generator=generator)]
        shape = dict(batch)
    module = OnePass(model, names, head.output)
    dynamic = ([shape or None] * len(names),)
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        what = f"{model.config.model_type} cannot be exported as one graph"
        raise Unsupported(what, f"{type(error).__name__}: {error}", _FIX) from error
    return Exported(program=program, example=(example,))
