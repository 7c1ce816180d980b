"""Loads a Hugging Face model directory and makes sure that it is whole.

Transformers fills missing weights with random numbers and goes on; a reference must not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors import SafetensorError, safe_open  # noqa: TID253 - as above
from transformers import (  # noqa: TID253 - as above
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.utils import logging  # noqa: TID253 - as above

from lmi_verify.errors import Malformed, ModelUnreadable
from lmi_verify.jsonread import Reader, parse_json


class Step(Protocol):
    """What one forward call answers."""

    logits: torch.Tensor
    past_key_values: object


class CausalLM(Protocol):
    """The part of a Hugging Face decoder that a reference uses."""

    def __call__(
        self,
        *,
        input_ids: torch.Tensor,
        use_cache: bool,
        past_key_values: object = None,
        **more: torch.Tensor,
    ) -> Step:
        """Logits [1, tokens, vocab] and the cache for the next call."""
        ...

    forward: Callable[..., object]
    modules: Callable[[], Iterator[torch.nn.Module]]
    named_modules: Callable[[], Iterator[tuple[str, torch.nn.Module]]]
    named_parameters: Callable[[], Iterator[tuple[str, torch.nn.Parameter]]]


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that a reference uses."""

    def encode(self, text: str, *, verbose: bool) -> list[int]:
        """Token ids, with the special tokens the model expects; `verbose` warns of long texts."""
        ...

    def decode(self, token_ids: list[int]) -> str:
        """The text of token ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready to be run; `eos_token_ids` are empty when it names none."""

    directory: Path
    model: CausalLM
    tokenizer: Tokenizer
    eos_token_ids: tuple[int, ...]


def load(
    directory: Path, *, trust_remote_code: bool, dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Loads model and tokenizer, from local files only.

    Args:
        directory: A Hugging Face directory with safetensors weights.
        trust_remote_code: Whether Python files of the directory may run.
        dtype: What it computes in.

    Raises:
        ModelUnreadable: A file is missing, corrupt or incomplete, or holds NaN.
    """
    logging.disable_progress_bar()
    owners = _weight_owners(directory)
    tokenizer = load_tokenizer(directory, trust_remote_code=trust_remote_code)
    model, report = from_pretrained(
        AutoModelForCausalLM, directory, trust_remote_code=trust_remote_code, dtype=dtype
    )
    for name, *shapes in sorted(report["mismatched_keys"]):
        held, wanted = (list(shape) for shape in shapes)
        why = f"the weight {name} has the shape {held}, config.json wants {wanted}"
        raise ModelUnreadable(owners.get(name, _weights_name(directory)), why)
    missing = sorted(report["missing_keys"])
    if missing:
        why = f"{len(missing)} of the model's weights are missing, the first is {missing[0]}"
        raise ModelUnreadable(_weights_name(directory), why)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            why = f"the weight {name} holds NaN or infinity"
            raise ModelUnreadable(owners.get(name, _weights_name(directory)), why)
    return LoadedModel(
        directory=directory,
        model=model,
        tokenizer=tokenizer,
        eos_token_ids=_eos_token_ids(model.generation_config),
    )


def from_pretrained(
    loader: Any,  # noqa: ANN401 - transformers' classes have no types
    directory: Path,
    *,
    trust_remote_code: bool,
    dtype: torch.dtype = torch.float32,
) -> tuple[Any, Mapping[str, Any]]:
    """A model of a class of transformers in eval mode, and what its loading says of the weights.

    Raises:
        ModelUnreadable: It cannot be loaded; weights of another shape are for the caller to refuse.
    """
    try:
        # without attn_implementation: SDPA where the model has it
        model, report = loader.from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they can then be named
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnreadable(directory / "config.json", first_line(error)) from error
    return model.eval(), report


def _weights_name(directory: Path) -> Path:
    index = directory / "model.safetensors.index.json"
    return index if index.exists() else directory / "model.safetensors"


def _weight_owners(directory: Path) -> dict[str, Path]:
    """Weight name to the file that holds it; opens every file, so that a broken one is named."""
    index = directory / "model.safetensors.index.json"
    files = [directory / "model.safetensors"]
    if index.exists():
        try:
            told = Reader(parse_json(index.read_bytes()), index.name)
            shards = {each.text() for each in told.get("weight_map").entries().values()}
        except (ValueError, Malformed) as error:
            raise ModelUnreadable(index, first_line(error)) from error
        files = sorted(directory / shard for shard in shards)
    owners: dict[str, Path] = {}
    for path in files:
        if not path.is_file():
            why = "there is no such file"
            raise ModelUnreadable(path, why)
        try:
            with safe_open(path, framework="pt") as file:
                owners |= dict.fromkeys(file.keys(), path)
        except (OSError, SafetensorError) as error:
            raise ModelUnreadable(path, first_line(error)) from error
    return owners


def load_tokenizer(directory: Path, *, trust_remote_code: bool) -> Tokenizer:
    """The tokenizer of a directory; transformers would make an empty one where there is none.

    Raises:
        ModelUnreadable: There is no tokenizer.json, or it cannot be read.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        why = "there is no such file (the served model needs it too)"
        raise ModelUnreadable(path, why)
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            directory, use_fast=True, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ModelUnreadable(path, first_line(error)) from error
    return tokenizer


def _eos_token_ids(config: GenerationConfig) -> tuple[int, ...]:
    found: object = config.eos_token_id
    match found:
        case int():
            return (found,)
        case list():
            return tuple(int(each) for each in found)
        case _:
            return ()


def first_line(error: Exception) -> str:
    """An error's message, cut to what fits a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
