"""Worker function: checks a model's files and makes a Hugging Face directory of them.

Nothing heavy is imported unless the model is a GGUF file.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ModelFault
from lmi_compile.models.files import CONFIG, INDEX, ModelFiles, model_files, shard_map
from lmi_compile.models.gguf_header import read_gguf_header
from lmi_compile.models.identity import architecture_of, read_config
from lmi_compile.models.safetensors_header import read_safetensors_header
from lmi_compile.models.strict_json import read_object

GENERATION_CONFIG = "generation_config.json"
_TOKENIZER = "tokenizer.json"
_LICENCES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")
_MODE = 0o644
_SHOWN = 8


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Makes `out` a Hugging Face directory: config, safetensors, tokenizer, generation config.

    Args:
        params: `config`: the architecture that the model must have, or None.
        inputs: one directory of a model's files, as `lmi_compile.models.fetch` leaves it.
        out: an empty directory.

    Raises:
        ModelFault: the files are damaged, incomplete, or not the architecture of the recipe.
    """
    (source,) = inputs.values()
    found = model_files(source)
    if found.form == "gguf":
        _convert_gguf(source, found, out)
    else:
        _pass_through(source, found, out)
    _check_architecture(read_config(out / CONFIG), params.get("config"))


def _pass_through(source: Path, found: ModelFiles, out: Path) -> None:
    config = read_config(source / CONFIG)
    tensors = {
        tensor.name: name
        for name in found.weights
        for tensor in read_safetensors_header(source / name).tensors
    }
    if INDEX in found.names:
        _check_index(source, tensors)
    _say(f"{len(tensors)} tensors in {len(found.weights)} safetensors files: headers are sound")
    if _TOKENIZER not in found.names:
        raise ModelFault(
            what=f"the model has no {_TOKENIZER}",
            why=f"there is: {', '.join(found.names)}",
            fix="write one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    read_object(source / _TOKENIZER)
    for name in found.names:
        _link(source / name, out / name)
    if GENERATION_CONFIG in found.names:
        read_object(source / GENERATION_CONFIG)
    else:
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        known = {name: config[name] for name in ids if config.get(name) is not None}
        text = json.dumps(known, indent=2, sort_keys=True) + "\n"
        (out / GENERATION_CONFIG).write_text(text, encoding="utf-8")


def _check_index(source: Path, tensors: Mapping[str, str]) -> None:
    named = shard_map(source)
    wrong = sorted(
        tensor for tensor in {*named, *tensors} if named.get(tensor) != tensors.get(tensor)
    )
    if wrong:
        first = wrong[0]
        why = f"{len(wrong)} tensors, first {first[:80]!r}: the index says {named.get(first)}"
        raise ModelFault(
            what=f"{INDEX} and the shards do not agree",
            why=f"{why}, it is in {tensors.get(first)}",
            fix="copy the index and all shards from the same version of the model",
        )


def _convert_gguf(source: Path, found: ModelFiles, out: Path) -> None:
    (name,) = found.weights
    header = read_gguf_header(source / name)
    _say(f"{name}: GGUF {header.version}, {len(header.tensors)} tensors, complete")
    from lmi_compile.models.gguf_convert import convert_gguf  # noqa: PLC0415 - imports torch

    convert_gguf(source / name, header, out)
    for licence in found.beside:
        if licence.upper().startswith(_LICENCES):
            _link(source / licence, out / licence)


def _check_architecture(config: Mapping[str, JSONValue], wanted: JSONValue) -> None:
    if not isinstance(wanted, Mapping):
        return
    expected, found = architecture_of(wanted), architecture_of(config)
    differing = [
        f"{name}: recipe {expected.get(name, 'nothing')!r}, model {found.get(name, 'nothing')!r}"
        for name in sorted({*expected, *found})
        if expected.get(name, "nothing") != found.get(name, "nothing")
    ]
    if differing:
        rest = len(differing) - _SHOWN
        more = [f"and {rest} more"] if rest > 0 else []
        raise ModelFault(
            what="the model does not have the architecture that the recipe names in model.config",
            why="; ".join([*differing[:_SHOWN], *more]),
            fix="let model.config name this model's own config.json, or leave it out",
        )


def _link(source: Path, target: Path) -> None:
    """The same bytes under a second name; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        shutil.copyfile(source, target)
        target.chmod(_MODE)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a worker's progress
