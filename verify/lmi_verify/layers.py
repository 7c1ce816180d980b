"""Where a build's weights leave the model: layer by layer, the first outside the noise band.

Three runs of the Hugging Face layers on the longest prompt: the model's weights in float32, the
same through the build's own rounding (the noise), and the packaged weights. It finds faults of
weights; a fault of the compiled graph itself leaves every layer here inside the band.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors import safe_open  # noqa: TID253 - as above

from lmi_verify.baseline import DTYPES, Rounding, round_rows
from lmi_verify.errors import OutputsUnusable
from lmi_verify.huggingface import CausalLM, load
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.outputs import read_prompts

_ROOM = 3.0  # times the noise of the method itself
_FLOOR = 1e-4  # relative; float32 sums in another order stay far below it
_NAMED = 8


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `layers.json`.

    `{"format": 1, "prompt", "first": name or null, "layers": [{"name", "error", "band"}],
    "tensors": [{"name", "change"}]}`: errors are |difference| / |reference| (2-norms) of a layer's
    output; `change` is the same of a stored weight, the largest first.

    Args:
        params: `dtype`, `rounding`, `trust_remote_code`, as the baseline step takes them.
        inputs: `model`, `reference`, and `package`, a tree with `weights.safetensors`.
        out: Where the file goes.

    Raises:
        ModelUnreadable: The model cannot be loaded.
        OutputsUnusable: The tree's weights do not have the model's names.
    """
    given = Reader(dict(params), "params")
    dtype = DTYPES[given.get("dtype").text()]
    rounding = given.get("rounding").text()
    trust = given.get("trust_remote_code").flag()
    prompts = read_prompts(inputs["reference"]).prompts
    prompt = max(prompts, key=lambda each: len(each.input_ids))
    model = load(inputs["model"], trust_remote_code=trust).model
    right = _outputs(model, prompt.input_ids)
    changes = _replace(model, inputs["package"] / "weights.safetensors")
    built = _outputs(model, prompt.input_ids)
    noisy = load(inputs["model"], trust_remote_code=trust).model
    _round(noisy, dtype, rounding)
    noise = _outputs(noisy, prompt.input_ids)
    errors = {name: _relative(built[name], tensor) for name, tensor in right.items()}
    bands = {
        name: max(_ROOM * _relative(noise[name], tensor), _FLOOR) for name, tensor in right.items()
    }
    first = next((name for name, error in errors.items() if not error <= bands[name]), None)
    worst = sorted(changes.items(), key=lambda pair: -pair[1])[:_NAMED]
    found = {
        "format": 1,
        "prompt": prompt.id,
        "first": first,
        "layers": [
            {"name": name, "error": error, "band": bands[name]} for name, error in errors.items()
        ],
        "tensors": [{"name": name, "change": change} for name, change in worst],
    }
    (out / "layers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    told = (
        f"{first} is the first layer outside" if first else f"all {len(errors)} layers are inside"
    )
    print(f"explain: {told} the noise band", flush=True)  # noqa: T201 - progress for the log


@torch.inference_mode()
def _outputs(model: CausalLM, ids: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """What the embedding, every decoder layer, the last norm and the head put out, in order."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, given: object, output: object) -> None:
            del module, given
            tensor = output[0] if isinstance(output, tuple) else output
            if isinstance(tensor, torch.Tensor):
                found[name] = tensor.detach().float()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in _watched(model)]
    try:
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _watched(model: CausalLM) -> list[tuple[str, torch.nn.Module]]:
    """The modules of the residual stream: children of the decoder, its layers one by one."""
    watched: list[tuple[str, torch.nn.Module]] = []
    for name, module in model.named_modules():
        parent, _, last = name.rpartition(".")
        in_list = last.isdecimal() and parent.count(".") <= 1
        outer = name and name.count(".") <= 1 and not list(module.children())
        if in_list or outer:
            watched.append((name, module))
    return watched


@torch.no_grad()
def _replace(model: CausalLM, weights: Path) -> dict[str, float]:
    """Puts packaged weights into the model; returns how much each matrix or vector changed."""
    own = dict(model.named_parameters())
    changes: dict[str, float] = {}
    with safe_open(weights, framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names):
            if name not in own:
                continue
            tensor = file.get_tensor(name).float()
            scale = name.removesuffix("weight") + "weight_scale"
            if scale in names:
                tensor = tensor * file.get_tensor(scale)[:, None]
            if tensor.shape != own[name].shape:
                problem = f"{name} has the shape {list(tensor.shape)} in the tree"
                raise OutputsUnusable((problem,))
            changes[name] = _relative(tensor, own[name])
            own[name].copy_(tensor)
    if not changes:
        raise OutputsUnusable(("the tree's weights.safetensors has none of the model's names",))
    return changes


@torch.no_grad()
def _round(model: CausalLM, dtype: torch.dtype, rounding: str) -> None:
    """The build's own rounding of the weights, computed in float32."""
    wanted: Rounding = "int8-rows"
    if rounding == wanted:
        round_rows(model)
    for _, parameter in model.named_parameters():
        parameter.copy_(parameter.to(dtype).float())


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-12))
