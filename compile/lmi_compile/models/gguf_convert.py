"""A GGUF file made into a Hugging Face directory in float32, by transformers, and repaired.

What transformers 5.23 loses or changes on the way, and what is done about it:

- how the vocabulary's family splits digits (`tokenizer.ggml.pre`): see `gguf_tokenizer`;
- all stop tokens but one: `generation_config.json` gets the end-of-turn tokens too;
- decimal numbers that GGUF keeps in float32 (1e-05 comes out as 9.999999747378752e-06): written as
  the shortest decimal of the same float32, which is what the model's own config.json says;
- names of this machine's files and modes in the saved JSON: taken out.
"""

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - imported for a GGUF only, by the worker
from transformers import (  # noqa: TID253 - the same
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.modeling_gguf_pytorch_utils import (  # noqa: TID253 - the same
    GGUF_SUPPORTED_ARCHITECTURES,
    load_gguf_checkpoint,
)

from lmi_compile.errors import ModelFault
from lmi_compile.models.gguf_header import GgufHeader
from lmi_compile.models.gguf_tokenizer import check_tokenizer, repair_tokenizer, split_of

_STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")
_NOT_OF_THE_MODEL = (
    *("_model_name_or_path", "_name_or_path", "is_local", "local_files_only"),
    "_from_model_config",  # it would let config.json override generation_config.json
)
_MODE = 0o644
_SHOWN = 6


def convert_gguf(path: Path, header: GgufHeader, out: Path) -> None:
    """Converts the file `path` into the empty directory `out`.

    Args:
        path: the GGUF file.
        header: its header, checked.
        out: gets config.json, generation_config.json, model.safetensors (float32),
            tokenizer.json, tokenizer_config.json and, where there is one, chat_template.jinja.

    Raises:
        ModelFault: transformers cannot read this kind of GGUF, or not rightly.
    """
    architecture = header.text("general.architecture")
    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise _cannot(path, f"transformers does not read the architecture {architecture!r}")
    split = split_of(header)
    started = time.monotonic()
    try:
        model = _load_model(path)
        _say(f"read and dequantised {len(header.tensors)} tensors", started)
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, OSError) as error:
        raise _cannot(path, f"transformers: {type(error).__name__}: {error}") from error
    model.generation_config = _generation_config(model.generation_config, header)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _say("saved weights and tokenizer", started)
    repair_tokenizer(out, split, header)
    check_tokenizer(out, header, int(model.config.vocab_size))
    _tidy(out)


def _load_model(path: Path) -> Any:  # noqa: ANN401 - transformers has no types
    """The model in float32, with the file's tensors assigned to it one to one."""
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = load_gguf_checkpoint(
        str(path), return_tensors=True, model_to_load=model, torch_dtype=torch.float32
    )["tensors"]
    unexpected = model.load_state_dict(tensors, strict=False, assign=True).unexpected_keys
    model.tie_weights()
    missing = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if missing or unexpected:
        why = f"without values: {missing[:_SHOWN]}, without a place: {unexpected[:_SHOWN]}"
        raise _cannot(path, f"its tensors do not fill the model; {why}")
    return model


def _generation_config(config: Any, header: GgufHeader) -> Any:  # noqa: ANN401 - the same
    ids = {name: header.integer(f"tokenizer.ggml.{name}") for name in _STOPS}
    stops = sorted({value for value in ids.values() if value is not None})
    if stops:
        config.eos_token_id = stops[0] if len(stops) == 1 else stops
    config.bos_token_id = header.integer("tokenizer.ggml.bos_token_id")
    pad = header.integer("tokenizer.ggml.padding_token_id")
    config.pad_token_id = stops[0] if pad is None and stops else pad
    return config


def _tidy(out: Path) -> None:
    """Takes what is of this machine out of the JSON files, and evens out modes."""
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        path = out / name
        content = json.loads(path.read_text(encoding="utf-8"))
        for field in _NOT_OF_THE_MODEL:
            content.pop(field, None)
        text = json.dumps(_shortened(content), indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    for path in out.iterdir():
        path.chmod(_MODE)


def _shortened(value: Any) -> Any:  # noqa: ANN401 - JSON of any shape
    match value:
        case Mapping():
            return {name: _shortened(item) for name, item in value.items()}
        case list():
            return [_shortened(item) for item in value]
        case float():
            return shortest_decimal(value)
        case _:
            return value


def shortest_decimal(value: float) -> float:
    """The shortest decimal with the same float32, if `value` is a float32 at all."""
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        return value
    if struct.unpack("<f", packed)[0] != value:
        return value
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == packed:
            return short
    return value


def _cannot(path: Path, why: str) -> ModelFault:
    return ModelFault(
        what=f"{path.name} cannot be converted",
        why=why,
        fix="use the model's safetensors directory",
    )


def _say(line: str, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"{line} ({seconds:.0f} s)", flush=True)  # noqa: T201 - a worker's progress
