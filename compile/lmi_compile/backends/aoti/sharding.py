"""One rank's model: the same code with fewer heads, and sums over the ranks where they meet.

All ranks have the same shapes, so one compiled graph serves all; what differs is in their weights
and in the token ids, which the loader shifts by the rank's first word of the vocabulary. The sums
are `_c10d_functional.all_reduce`, which AOTInductor calls through its C interface; the group is
found by name when the graph runs, so nothing has to be connected while compiling.
How a layer is split is what transformers itself declares (`base_model_tp_plan`).
"""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch  # noqa: TID253 - imported by the compile worker only
from torch._C._distributed_c10d import (  # noqa: TID253 - the same
    HashStore,
    ProcessGroup,
    _register_process_group,
    _unregister_process_group,
)
from torch.distributed.distributed_c10d import GroupName  # noqa: TID253 - the same
from transformers import PreTrainedConfig, PreTrainedModel  # noqa: TID253 - the same

from lmi_compile.backends.aoti import skeleton
from lmi_compile.backends.aoti.linears import GraphLinear, all_reduce
from lmi_compile.backends.aoti.parallel import Split, require_degree
from lmi_compile.errors import Unsupported

_GATHERED = "colwise_gather_output"
# By output rows; an embedding's rows are its words.
_ON_OUTPUTS = frozenset({"colwise", _GATHERED, "embedding_rowwise"})
_ON_INPUTS = frozenset({"rowwise"})
# Norms over one head: every rank has them whole.
_WHOLE = frozenset({"replicated_with_grad_allreduce"})


def local_config(config: PreTrainedConfig, degree: int) -> PreTrainedConfig:
    """The configuration of one rank's model.

    Raises:
        Unsupported: The degree does not divide the model.
    """
    require_degree(config.to_dict(), degree)
    local = copy.deepcopy(config)
    heads = config.num_attention_heads
    local.head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    local.num_attention_heads = heads // degree
    shared = getattr(config, "num_key_value_heads", None) or heads
    local.num_key_value_heads = max(1, shared // degree)
    local.intermediate_size = config.intermediate_size // degree
    local.vocab_size = vocabulary_rows(config, degree)
    local.pad_token_id = None  # it is a row of the embedding by number, and means nothing here
    return local


def vocabulary_rows(config: PreTrainedConfig, degree: int) -> int:
    """Words per rank; the last rank's are fewer where the vocabulary does not divide."""
    return -(-int(config.vocab_size) // degree)


@contextmanager
def named_group(degree: int) -> Iterator[None]:
    """A group of the graphs' name: the compiler asks for its size, and nothing of it."""
    group = ProcessGroup(HashStore(), 0, degree)  # the registry itself keeps none alive
    _register_process_group(GroupName("0"), group)
    try:
        yield
    finally:
        _unregister_process_group(GroupName("0"))


def join_ranks(model: PreTrainedModel, config: PreTrainedConfig, degree: int) -> dict[str, Split]:
    """Makes a local model, its linear layers swapped, one of `degree` that sum what they compute.

    Args:
        model: Built from `local_config`; changed in place.
        config: The whole model's.
        degree: How many ranks.

    Returns:
        How each stored tensor of the checkpoint divides.

    Raises:
        Unsupported: The model's layers do not divide as its plan says.
    """
    with torch.device("meta"):
        whole = skeleton.build(config, torch.float32)
    styles = _styles(whole)
    for name, style in styles.items():
        module = model.get_submodule(name)
        if style in _ON_INPUTS and isinstance(module, GraphLinear):
            module.sums_ranks = True
    embedding = next(
        name for name, module in model.named_modules() if module is model.get_input_embeddings()
    )
    _join_embedding(model.get_input_embeddings())
    styles[embedding] = "colwise"
    shapes = {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}
    return {
        name: _split(name, styles, shapes[name], tuple(tensor.shape), degree)
        for name, tensor in model.state_dict().items()
    }


def _styles(whole: PreTrainedModel) -> dict[str, str]:
    """Module to its style, by the patterns that transformers declares for this model."""
    patterns = {
        re.compile(re.escape(pattern).replace(r"\*", r"\d+")): style
        for pattern, style in (whole.tp_plan or {}).items()
    }
    found = {}
    for name, _ in whole.named_modules():
        for pattern, style in patterns.items():
            if pattern.fullmatch(name):
                found[name] = style
    strange = sorted(set(found.values()) - _ON_OUTPUTS - _ON_INPUTS - _WHOLE)
    head = next(
        name for name, module in whole.named_modules() if module is whole.get_output_embeddings()
    )
    gathered = [name for name, style in found.items() if style == _GATHERED and name != head]
    if strange or gathered or not _ON_INPUTS & set(found.values()):
        why = f"transformers splits it in ways that are not carried: {strange or gathered}"
        raise Unsupported("this model cannot be split over ranks", why, _FIX)
    return {**found, head: "colwise"}


def _split(
    name: str, styles: dict[str, str], full: tuple[int, ...], local: tuple[int, ...], degree: int
) -> Split:
    module, _, part = name.rpartition(".")
    style = styles.get(module)
    axis: int | None = None
    if style in _ON_OUTPUTS:
        axis = 0
    elif style in _ON_INPUTS and part == "weight":
        axis = 1
    if axis is None:
        first_only = style in _ON_INPUTS
        expected, parts = full, 1
    else:
        first_only = False
        parts = min(degree, -(-full[axis] // local[axis]))
        expected = (*full[:axis], -(-full[axis] // parts), *full[axis + 1 :])
    if local != expected or degree % parts:
        why = f"{name} is {list(full)}, and one rank of {degree} wants {list(local)} of it"
        raise Unsupported("this model cannot be split over ranks", why, _FIX)
    return Split(axis=axis, parts=parts, first_only=first_only, full=full)


def _join_embedding(embedding: torch.nn.Module) -> None:
    """Words of other ranks, whose shifted ids are outside this one's rows, add nothing."""
    rows = int(embedding.num_embeddings)  # type: ignore[arg-type]  # an attribute of nn.Embedding
    outside: list[torch.Tensor] = []

    def before(_module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (ids,) = arguments
        outside.append((ids < 0) | (ids >= rows))
        return (ids.clamp(0, rows - 1),)

    def after(_module: torch.nn.Module, _arguments: object, out: torch.Tensor) -> torch.Tensor:
        return all_reduce(out.masked_fill(outside.pop()[..., None], 0))

    embedding.register_forward_pre_hook(before)
    embedding.register_forward_hook(after)


_FIX = "set tensor_parallel_degree to 1"
