"""Worker function: a checkpoint's own outputs on the reference's prompts, before any engine.

Also holds the merged weights against the model's, and writes what it found to `checkpoint.json`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors.torch import load_file, save_file  # noqa: TID253 - as above
from transformers import AutoModelForCausalLM  # noqa: TID253 - as above

from lmi_artifacts.digest import JSONValue
from lmi_compile.quantize.cells import table
from lmi_compile.quantize.checkpoint import read_merged
from lmi_compile.quantize.simulate import simulated
from lmi_compile.quantize.weights import check_weights, compare_weights
from lmi_verify.eager import likelihoods


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `outputs.json`, `outputs.safetensors` and `checkpoint.json`.

    Args:
        params: `format`, a name of `data/cells.json`.
        inputs: `checkpoint`, `model`, `checkpoint-reference`.
        out: an empty directory.

    Raises:
        VerificationFailed: the checkpoint's weights are not the model's.
    """
    checkpoint = read_merged(inputs["checkpoint"])
    report = compare_weights(checkpoint, _weights(inputs["model"]))
    _say(f"weights: {report.exact} tensors bit for bit, {len(report.differing)} not")
    if report.quantised:
        worst = f"{report.worst_error:.4f} ({report.worst_linear})"
        _say(f"weights: {report.quantised} quantised linears, worst relative error {worst}")
    check_weights(report, table()["weight_error_limits"].get(str(params["format"])))
    (out / "checkpoint.json").write_text(
        json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8"
    )
    _answer(simulated(checkpoint), inputs["checkpoint-reference"], out)


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True
    )
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


@torch.inference_mode()
def _answer(model: Any, reference: Path, out: Path) -> None:  # noqa: ANN401 - transformers is untyped
    asked = json.loads((reference / "prompts.json").read_bytes())
    tokens = load_file(reference / "prompts.safetensors")
    eos = set(asked["eos_token_ids"])
    made: dict[str, torch.Tensor] = {}
    answered = []
    for index, prompt in enumerate(asked["prompts"]):
        name = f"{index:03d}"
        given, forced = tokens[f"{name}.input_ids"], tokens[f"{name}.forced_ids"]
        started = time.perf_counter()
        whole = torch.cat((given, forced[:-1]))
        logits = model(input_ids=whole[None], use_cache=False).logits[0].float()
        scored = time.perf_counter()
        made[f"{name}.prompt_logits"] = logits[tokens[f"{name}.rows"]].clone()
        made[f"{name}.token_log_probs"] = likelihoods(logits[: len(given)], given.tolist())
        made[f"{name}.forced_logits"] = logits[len(given) - 1 :].clone()
        ids = _greedy(model, given, len(forced), eos)
        made[f"{name}.generated_ids"] = torch.tensor(ids)
        ended = time.perf_counter()
        answered.append(
            {
                "id": prompt["id"],
                "finish_reason": "eos_token" if ids[-1] in eos else "length",
                "seconds": {
                    "prefill": round(scored - started, 4),
                    "decode": round(ended - scored, 4),
                },
            }
        )
        _say(f"prompt {prompt['id']}: {len(given)} + {len(forced)} tokens")
    save_file(made, out / "outputs.safetensors")
    content = {
        "format": 1,
        "prompts_digest": asked["digest"],
        "vocab_size": asked["vocab_size"],
        "prompts": answered,
    }
    (out / "outputs.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _greedy(model: Any, given: torch.Tensor, limit: int, eos: set[int]) -> list[int]:  # noqa: ANN401 - as above
    step = model(input_ids=given[None], use_cache=True)
    ids = [int(step.logits[0, -1].argmax())]
    while len(ids) < limit and ids[-1] not in eos:
        step = model(
            input_ids=torch.tensor([ids[-1:]]),
            past_key_values=step.past_key_values,
            use_cache=True,
        )
        ids.append(int(step.logits[0, -1].argmax()))
    return ids


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a worker's progress is its stdout
