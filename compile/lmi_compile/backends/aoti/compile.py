"""The compile step: a configuration and its limits in, two libraries and their description out.

No weights are read, so every fine-tune of an architecture shares the result.
"""

import contextlib
import gc
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - the worker's own process imports this module
import transformers  # noqa: TID253 - the same

from lmi_artifacts.digest import JSONValue, digest_json
from lmi_compile.backends.aoti import constants as constants_of
from lmi_compile.backends.aoti import (
    export,
    few_rows,
    inductor,
    linears,
    quantised,
    sharding,
    skeleton,
    slots,
)
from lmi_compile.backends.aoti.forms import PLAIN, Form, read_form
from lmi_compile.backends.aoti.parallel import DEGREE, Split
from lmi_compile.backends.aoti.progress import say, stage
from lmi_compile.backends.aoti.runtime import environment
from lmi_compile.backends.aoti.runtime.device import device_for
from lmi_compile.backends.aoti.runtime.tensorfile import write_tensors
from lmi_compile.backends.aoti.scratch import fixed_scratch
from lmi_compile.errors import EnvironmentFault, ModelFault, Unsupported

# Members whose bytes differ between two builds from empty caches, with the cause.
_DIFFERS: dict[str, JSONValue] = {}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    config: dict[str, Any]
    vocabulary: int
    degree: int
    shapes: export.Shapes
    form: Form
    target: inductor.Target
    sm: int | None
    flags: list[str]
    vectors: str
    compiler: str


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Compiles prefill and decode.

    Args:
        params: `config` (a Hugging Face config.json; null: the model's own), `dtype`,
            `quantization` (a form; none when absent), `tensor_parallel_degree` (1 when absent;
            else the libraries are one rank's, the same for each), `sm` (of a CUDA device that the
            graphs run on; absent: on the processor), `max_batch_size`,
            `max_input_len`, `max_seq_len`, `march`, `simdlen`, `required_cpu_flags`, `draft`
            (compile fast rather than fast code; not when absent).
        inputs: `model` when `config` is null.
        out: Receives `graphs/{prefill,decode}/model.so`, with several sequences also
            `graphs/decode_one/model.so`, then `constants.safetensors` and `graphs.json`.

    Raises:
        Unsupported: The model or the limits are not something this backend can do.
        ModelFault: The configuration cannot be read.
        EnvironmentFault: No compiler, or a processor unlike the target.
        ToolFailed: The compiler failed.
    """
    whole = skeleton.read_config(_config(params, inputs))
    with fixed_scratch(f"aoti-{digest_json(dict(params)).hex[:16]}") as scratch:
        degree = _degree(params)
        config = whole if degree == 1 else sharding.local_config(whole, degree)
        job = _job(params, config, int(whole.vocab_size))
        inductor.compile_for(job.target, scratch)
        say(f"building {config.model_type} from its configuration, without weights")
        model = _model(config, job)
        splits = {} if degree == 1 else sharding.join_ranks(model, whole, degree)
        with sharding.named_group(degree):
            constants = _compile(model, job, scratch, out / "graphs")
    write_tensors(out / "constants.safetensors", constants.others)
    description = _description(job, model, constants, splits)
    text = json.dumps(description, indent=1, sort_keys=True) + "\n"
    (out / "graphs.json").write_text(text, encoding="utf-8")


def _model(config: transformers.PreTrainedConfig, job: _Job) -> transformers.PreTrainedModel:
    """The model on its device, its linear layers as the graphs compute them."""
    with contextlib.nullcontext() if job.sm is None else job.shapes.device:
        model = skeleton.build(config, job.shapes.dtype)
        if job.form != PLAIN:
            swapped = quantised.quantise(model, job.form)
            if job.sm is not None:
                quantised.require_tensor_cores(model)
        else:
            swapped = linears.swap_linears(model) if job.sm is None else 0
        if job.form.cache == "fp8":
            slots.add_scales(model, len(job.shapes.cache))
    note = job.form.note(cuda=job.target.cuda)
    say(f"{swapped} linear layers, quantisation: {job.form.method}. {note}".strip())
    return model


def _compile(
    model: transformers.PreTrainedModel, job: _Job, scratch: Path, kept: Path
) -> constants_of.Constants:
    """One graph after the other, so that memory holds one compilation."""
    constants = constants_of.Constants(device=job.shapes.device)
    names = constants_of.checkpoint_names(model)
    kernels = None
    if job.sm is None and _calls_kernel(model, job.shapes.batch):
        kernels = few_rows.build(scratch / "kernels", job.target.march)
    for graph, rows in _graphs(job.shapes.batch).items():
        linears.set_rows(model, rows if job.sm is None else "any")
        with stage(f"{graph}: exporting"):
            exported = _export(model, job.shapes, rows)
        library = scratch / graph / "model.so"
        with stage(f"{graph}: compiling"):
            inductor.compile_to(exported, library, job.target, kernels)
        constants.add(graph, exported, library, names)
        (kept / graph).mkdir(parents=True)
        shutil.copyfile(library, kept / graph / "model.so")
        del exported
        gc.collect()
    return constants


def _calls_kernel(model: transformers.PreTrainedModel, batch: int) -> bool:
    reading = (quantised.Int8Linear, quantised.Fp8Linear)
    return batch > 1 or any(isinstance(each, reading) for each in model.modules())


def _graphs(batch: int) -> dict[str, linears.Rows]:
    """The graphs of a package; a sequence alone is not made to pay for a full batch."""
    if batch == 1:
        return {"prefill": "many", "decode": "one"}
    return {"prefill": "many", "decode": "few", "decode_one": "one"}


def _export(
    model: transformers.PreTrainedModel, shapes: export.Shapes, rows: linears.Rows
) -> export.Exported:
    if rows == "many":
        return export.export_prefill(model, shapes)
    return export.export_decode(model, shapes if rows == "few" else replace(shapes, batch=1))


def _job(
    params: Mapping[str, JSONValue], config: transformers.PreTrainedConfig, vocabulary: int
) -> _Job:
    dtype = _DTYPES.get(str(params["dtype"]))
    if dtype is None:
        what = f"the aoti backend does not compile {params['dtype']}"
        raise Unsupported(what, "", f"set dtype to one of {', '.join(_DTYPES)}")
    quantization = params.get("quantization")
    form = read_form(quantization if isinstance(quantization, dict) else None)
    longest, total = _whole(params, "max_input_len"), _whole(params, "max_seq_len")
    known = getattr(config, "max_position_embeddings", None)
    if not 2 <= longest < total or (isinstance(known, int) and total > known):  # noqa: PLR2004 - a dynamic length needs two values
        what = "these lengths cannot be compiled for this model"
        why = f"max_input_len {longest}, max_seq_len {total}, the model's own limit {known}"
        fix = "need 2 <= max_input_len < max_seq_len <= the model's max_position_embeddings"
        raise Unsupported(what, why, fix)
    sm = _whole(params, "sm") if "sm" in params else None
    flags = _flags(params["required_cpu_flags"])
    target = inductor.Target(
        march=str(params["march"]),
        simdlen=_whole(params, "simdlen"),
        draft=bool(params.get("draft")),
        cuda=sm is not None,
    )
    shapes = export.Shapes(
        batch=_whole(params, "max_batch_size"),
        max_input_len=longest,
        max_seq_len=total,
        cache=skeleton.cache_shapes(config),
        dtype=dtype,
        slot_dtype=torch.uint8 if form.cache == "fp8" else None,
        device=_device(sm),
    )
    return _Job(
        config=config.to_dict(),
        vocabulary=vocabulary,
        degree=_degree(params),
        shapes=shapes,
        form=form,
        target=target,
        sm=sm,
        flags=flags,
        vectors=inductor.require_vectors(target),
        compiler=inductor.require_compiler(),
    )


def _description(
    job: _Job,
    model: transformers.PreTrainedModel,
    constants: constants_of.Constants,
    splits: Mapping[str, Split],
) -> dict[str, JSONValue]:
    """`graphs.json`: all that loading, packaging and fitting weights need to know."""
    shapes = job.shapes
    return {
        "format": 1,
        "backend": "aoti",
        "built_with": _built_with(job),
        "reproducibility": {"differs": dict(_DIFFERS)},
        "requires": {
            "torch": str(torch.__version__).partition("+")[0],
            "torch_git": torch.version.git_version,
            "machine": platform.machine(),
            "cpu_flags": list(job.flags),
            **({} if job.sm is None else {"sm": job.sm}),
        },
        "model": {
            "model_type": job.config["model_type"],
            "layers": len(shapes.cache),
            DEGREE: job.degree,
        },
        "parallel": _parallel(job, splits),
        "quantization": job.form.to_json(),
        "note": job.form.note(cuda=job.target.cuda),
        "packed": dict(constants.packed),
        "dtype": str(shapes.dtype).removeprefix("torch."),
        "slot_dtype": str(shapes.slot_dtype or shapes.dtype).removeprefix("torch."),
        "limits": {
            "max_batch_size": shapes.batch,
            "max_input_len": shapes.max_input_len,
            "max_seq_len": shapes.max_seq_len,
            "vocab_size": job.vocabulary,
        },
        "cache": [[[one.heads, one.width] for one in layer] for layer in shapes.cache],
        "graphs": {
            graph: {"library": f"graphs/{graph}/model.so", "constants": dict(mapped)}
            for graph, mapped in constants.maps.items()
        },
        "tensors": {
            "weights.safetensors": _described(constants.weights),
            "constants.safetensors": _described(constants.others),
        },
        "tied": dict(constants_of.tied_names(model)),
        "ignored": sorted(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()),
    }


def _parallel(job: _Job, splits: Mapping[str, Split]) -> dict[str, JSONValue]:
    """Words of the vocabulary that each rank has, and how the stored tensors divide."""
    return {
        "vocabulary_rows": int(job.config["vocab_size"]),
        "splits": {name: splits[name].to_json() for name in sorted(splits)},
    }


def _built_with(job: _Job) -> dict[str, JSONValue]:
    return {
        "torch": str(torch.__version__),
        "torch_git": torch.version.git_version,
        "transformers": transformers.__version__,
        "compiler": job.compiler,
        "libc": " ".join(platform.libc_ver()),
        "march": job.target.march,
        "simdlen": job.target.simdlen,
        "vectors": job.vectors,
    }


def _described(tensors: Mapping[str, torch.Tensor]) -> dict[str, JSONValue]:
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in sorted(tensors.items())
    }


def _config(params: Mapping[str, JSONValue], inputs: Mapping[str, Path]) -> dict[str, Any]:
    given = params["config"]
    if given is None:
        given = json.loads((inputs["model"] / "config.json").read_bytes())
    if not isinstance(given, dict):
        what = f"config.json holds {type(given).__name__}, not an object"
        raise ModelFault(what, "", "correct the model's config.json")
    return given


def _flags(listed: JSONValue) -> list[str]:
    """The target's CPU flags, which this processor must have."""
    flags = [str(flag) for flag in listed] if isinstance(listed, list) else []
    missing = environment.missing_cpu_flags(flags)
    if missing:
        what = f"this processor lacks {', '.join(missing)}, which the target has"
        why = "what is compiled could not be loaded and checked here"
        raise EnvironmentFault(what, why, "build on a machine of the target's kind")
    return flags


def _device(sm: int | None) -> torch.device:
    """Where the graphs run; a device must be here, since kernels are tuned and assembled on it."""
    try:
        return device_for({} if sm is None else {"sm": sm})
    except environment.RuntimeMismatch as error:
        what = "the graphs cannot be compiled here"
        raise EnvironmentFault(
            what, str(error), "build on a machine of the target's kind"
        ) from error


def _degree(params: Mapping[str, JSONValue]) -> int:
    return _whole(params, DEGREE) if DEGREE in params else 1


def _whole(params: Mapping[str, JSONValue], name: str) -> int:
    value = params[name]
    if not isinstance(value, int):
        what = f"the aoti backend needs a number for {name}, not {value!r}"
        raise Unsupported(what, "", f"set shapes.{name} in the recipe")
    return value
