"""The compile step of a one-pass model: one library and its description.

No weights are read, so every fine-tune of an architecture shares the result.
"""

import json
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - the worker's own process imports this module
import transformers  # noqa: TID253 - the same

from lmi_artifacts.digest import JSONValue, digest_json
from lmi_compile.backends.aoti import constants as constants_of
from lmi_compile.backends.aoti import inductor
from lmi_compile.backends.aoti.forms import PLAIN
from lmi_compile.backends.aoti.one_pass import graph as graph_of
from lmi_compile.backends.aoti.one_pass.ground import input_names
from lmi_compile.backends.aoti.parallel import DEGREE
from lmi_compile.backends.aoti.progress import say, stage
from lmi_compile.backends.aoti.runtime import environment
from lmi_compile.backends.aoti.runtime.tensorfile import write_tensors
from lmi_compile.backends.aoti.scratch import fixed_scratch
from lmi_compile.errors import EnvironmentFault
from lmi_verify.one_pass.heads import head_named

GRAPH = "one_pass"
_LIBRARY = f"graphs/{GRAPH}/model.so"


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Compiles the graph.

    Args:
        params: `config` (see `one_pass.ground.architecture`), `head`, `max_batch_size`,
            `max_input_len` or `picture` (channels, height, width), `march`, `simdlen`,
            `required_cpu_flags`, `draft`.
        inputs: None are read.
        out: Receives `graphs/one_pass/model.so`, `constants.safetensors` and `graphs.json`.

    Raises:
        Unsupported: The model is not something this backend can do.
        ModelFault: The configuration cannot be read.
        EnvironmentFault: No compiler, or a processor unlike the target.
        ToolFailed: The compiler failed.
    """
    del inputs
    given: Any = params
    head, config = head_named(given["head"]), dict(given["config"])
    names = input_names(config, head)
    target = _target(given)
    limits: dict[str, JSONValue] = {"max_batch_size": given["max_batch_size"]}
    if head.reads == "text":
        limits["max_input_len"] = given["max_input_len"]
    else:
        limits["picture"] = given["picture"]
    told = {
        "vectors": inductor.require_vectors(target),
        "compiler": inductor.require_compiler(),
    }
    with fixed_scratch(f"aoti-{digest_json(dict(params)).hex[:16]}") as scratch:
        inductor.compile_for(target, scratch)
        say(f"building {config.get('model_type')} from its configuration, without weights")
        model = graph_of.build(config, head)
        with stage(f"{GRAPH}: exporting"):
            exported = graph_of.export(model, head, names, limits)
        library = scratch / GRAPH / "model.so"
        with stage(f"{GRAPH}: compiling"):
            inductor.compile_to(exported, library, target)
        constants = constants_of.Constants()
        constants.add(GRAPH, exported, library, constants_of.checkpoint_names(model))
        (out / _LIBRARY).parent.mkdir(parents=True)
        shutil.copyfile(library, out / _LIBRARY)
    write_tensors(out / "constants.safetensors", constants.others)
    description: dict[str, JSONValue] = {
        **_common(given, target, told),
        "model": {"model_type": config["model_type"], DEGREE: 1},
        "head": head.name,
        "inputs": list(names),
        "limits": limits,
        **_tensors(model, constants),
    }
    if head.reads == "text":
        description["vocabulary"] = _vocabulary(model)
    text = json.dumps(description, indent=1, sort_keys=True) + "\n"
    (out / "graphs.json").write_text(text, encoding="utf-8")


def _target(given: Mapping[str, Any]) -> inductor.Target:
    missing = environment.missing_cpu_flags(list(given["required_cpu_flags"]))
    if missing:
        what = f"this processor lacks {', '.join(missing)}, which the target has"
        why = "what is compiled could not be loaded and checked here"
        raise EnvironmentFault(what, why, "build on a machine of the target's kind")
    return inductor.Target(
        march=str(given["march"]),
        simdlen=int(given["simdlen"]),
        draft=bool(given.get("draft")),
    )


def _common(
    given: Mapping[str, Any], target: inductor.Target, told: Mapping[str, JSONValue]
) -> dict[str, JSONValue]:
    """What every description of this backend says, in the same words."""
    return {
        "format": 1,
        "backend": "aoti",
        "built_with": {
            "torch": str(torch.__version__),
            "torch_git": torch.version.git_version,
            "transformers": transformers.__version__,
            "libc": " ".join(platform.libc_ver()),
            "march": target.march,
            "simdlen": target.simdlen,
            **told,
        },
        "reproducibility": {"differs": {}},
        "requires": {
            "torch": str(torch.__version__).partition("+")[0],
            "torch_git": torch.version.git_version,
            "machine": platform.machine(),
            "cpu_flags": list(given["required_cpu_flags"]),
        },
        "dtype": "float32",
        "quantization": PLAIN.to_json(),
        "parallel": {"splits": {}},
        "packed": {},
    }


def _tensors(
    model: transformers.PreTrainedModel, constants: constants_of.Constants
) -> dict[str, JSONValue]:
    """The library's constants, and how the checkpoint's tensors become them."""
    tied = constants_of.tied_names(model)
    counters = "num_batches_tracked"  # of norms in training
    unread = set(model.state_dict()) - set(constants.weights) - set(tied)
    ignored = [f"^{re.escape(name)}$" for name in unread if not name.endswith(counters)]
    return {
        "graphs": {GRAPH: {"library": _LIBRARY, "constants": dict(constants.maps[GRAPH])}},
        "tensors": {
            "weights.safetensors": _described(constants.weights),
            "constants.safetensors": _described(constants.others),
        },
        "tied": dict(tied),
        "ignored": [*sorted(ignored), rf"\.{counters}$", r"^pooler\."],
    }


def _described(tensors: Mapping[str, torch.Tensor]) -> dict[str, JSONValue]:
    return {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in sorted(tensors.items())
    }


def _vocabulary(model: transformers.PreTrainedModel) -> int:
    """Rows of the embedding, which is what bounds token ids."""
    return int(model.get_input_embeddings().weight.shape[0])
