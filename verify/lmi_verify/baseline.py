"""The baseline step: the same model in the numbers that the build is made of.

It separates what a dtype or a method costs from what a fault costs: a candidate may be as far from
float32 as its baseline is, and must be near its baseline.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch  # noqa: TID253 - nobody imports this module before it is named

from lmi_verify.asking import write_scores
from lmi_verify.eager import Eager, likelihoods
from lmi_verify.errors import Malformed
from lmi_verify.huggingface import CausalLM, load
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.outputs import read_prompts

Rounding: TypeAlias = Literal["none", "int8-rows"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LEAST = 1e-8  # stands for a row of zeros


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes outputs.json and outputs.safetensors, logits and likelihoods only.

    Args:
        params: `dtype` (what it computes in), `rounding` (`int8-rows`: every matrix of a linear
            layer or embedding goes through whole numbers up to 127 with one scale per row),
            `trust_remote_code`.
        inputs: `model` and `reference`.
        out: Where the files go.

    Raises:
        ModelUnreadable: The model cannot be loaded.
        OutputsUnusable: The reference's prompts cannot be read.
        Malformed: A parameter is missing, or of another type.
    """
    given = Reader(dict(params), "params")
    rounding = given.get("rounding")
    if rounding.value not in get_args(Rounding):
        raise Malformed(rounding.where, "none or int8-rows", rounding.value)
    loaded = load(
        inputs["model"],
        trust_remote_code=given.get("trust_remote_code").flag(),
        dtype=DTYPES[given.get("dtype").text()],
    )
    if rounding.value == "int8-rows":
        round_rows(loaded.model)
    score(Eager(loaded), inputs["reference"], out)


def score(eager: Eager, reference: Path, out: Path) -> None:
    """Scores the reference's prompts and forced continuations in one pass each.

    Args:
        eager: The model.
        reference: With prompts.json and prompts.safetensors.
        out: Where outputs.json and outputs.safetensors go.
    """
    prompts = read_prompts(reference)
    tensors: dict[str, torch.Tensor] = {}
    for index, prompt in enumerate(prompts.prompts):
        ids, forced = list(prompt.input_ids), list(prompt.forced_ids)
        logits, _ = eager.prefill(ids + forced[:-1])
        name = f"{index:03d}"
        tensors[f"{name}.prompt_logits"] = logits[list(prompt.rows)].contiguous()
        tensors[f"{name}.forced_logits"] = logits[len(ids) - 1 :].contiguous()
        if prompt.corpus:
            tensors[f"{name}.token_log_probs"] = likelihoods(logits[: len(ids)], ids)
        print(f"baseline: prompt {prompt.id}", flush=True)  # noqa: T201 - progress for the log
    write_scores(
        out, prompts.digest, [each.id for each in prompts.prompts], prompts.vocab_size, tensors
    )


@torch.no_grad()
def round_rows(model: CausalLM) -> None:
    """Puts every matrix through 8-bit whole numbers with one scale per row, in place.

    The arithmetic of weight-only 8 bits: symmetric, scale = max|row| / 127, nearest even. A tied
    head shares its rows with the embedding and is rounded once.
    """
    seen: set[int] = set()
    for module in model.modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            continue
        weight = module.weight
        if weight.data_ptr() in seen:
            continue
        seen.add(weight.data_ptr())
        scale = weight.abs().amax(1, keepdim=True).clamp(min=_LEAST) / 127
        weight.copy_(torch.round(weight / scale).clamp(-127, 127) * scale)
