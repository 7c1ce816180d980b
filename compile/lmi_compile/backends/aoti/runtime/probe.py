"""Runs the prompts of a verification through the packaged graphs.

    python -m lmi_aoti_runtime.probe --prompts DIR --out DIR     (in the packaged tree)

Reads `prompts.json` and `prompts.safetensors`; writes `outputs.safetensors`, then `outputs.json`.
For prompt number i: `i.prompt_logits` [n, V] of every position from prefill; `i.forced_logits`
[m, V], the given continuation through decode, row 0 being the prompt's last position; and
`i.generated_ids` [g], the greedy continuation that the handler's own loop makes.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from .environment import RuntimeMismatch
from .generate import generate
from .request import Parameters
from .service import Service
from .tensorfile import write_tensors


def main(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lmi_aoti_runtime.probe")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    try:
        _probe(chosen.prompts, chosen.out)
    except RuntimeMismatch as error:
        print(error, flush=True)  # noqa: T201 - the step's last words
        return 1
    return 0


def _probe(prompts: Path, out: Path) -> None:
    service = Service(Path(__file__).resolve().parent.parent)
    print(f"{service.graphs.threads.count} threads: {service.graphs.threads.why}", flush=True)  # noqa: T201 - progress for the log
    listing = json.loads((prompts / "prompts.json").read_bytes())
    tensors: dict[str, torch.Tensor] = {}
    told: list[dict[str, Any]] = []
    with safe_open(prompts / "prompts.safetensors", framework="pt") as given:
        for index, prompt in enumerate(listing["prompts"]):
            number = f"{index:03d}"
            ids = given.get_tensor(f"{number}.input_ids")
            forced = given.get_tensor(f"{number}.forced_ids")
            _require_same_tokens(service, prompt, ids.tolist())
            finish, seconds, results = _run(service, ids, forced)
            tensors |= {f"{number}.{name}": tensor for name, tensor in results.items()}
            told.append({"id": prompt["id"], "finish_reason": finish, "seconds": seconds})
            print(f"prompt {prompt['id']}: {len(ids)} tokens, {seconds}", flush=True)  # noqa: T201 - progress for the log
    write_tensors(out / "outputs.safetensors", tensors)
    outputs = {
        "format": 1,
        "prompts_digest": listing["digest"],
        "vocab_size": service.graphs.vocab_size,
        "threads": service.graphs.threads.count,
        "prompts": told,
    }
    (out / "outputs.json").write_text(json.dumps(outputs, indent=1) + "\n", encoding="utf-8")


def _require_same_tokens(service: Service, prompt: Mapping[str, str], ids: list[int]) -> None:
    """The tree's tokenizer must make the tokens that the reference's made of the same text.

    The last token is left out: where a text is cut or repeated, it may have merged with another.
    """
    own = service.tokenizer.encode(prompt["text"]).ids[:-1][: len(ids)]
    if own != ids[: len(own)]:
        what = f"tokenizer.json makes other tokens of prompt {prompt['id']} than the reference's"
        raise RuntimeMismatch(what, "Package the tokenizer that belongs to the model")


def _run(
    service: Service, ids: torch.Tensor, forced: torch.Tensor
) -> tuple[str, dict[str, float], dict[str, torch.Tensor]]:
    """One prompt: how its continuation ended, the seconds of each part, and the tensors."""
    graphs = service.graphs
    start = time.perf_counter()
    prompt_logits = graphs.prefill(ids, torch.arange(len(ids)))
    read = time.perf_counter()
    rows = [prompt_logits[-1]]
    for step, token in enumerate(forced[:-1].tolist()):
        rows.append(graphs.decode(token, len(ids) + step))
    stepped = time.perf_counter()
    parameters = Parameters(max_new_tokens=len(forced))
    done = generate(graphs, service.tokenizer, ids.tolist(), parameters, service.eos_token_ids)
    ended = time.perf_counter()
    seconds = {
        "prefill": round(read - start, 4),
        "forced": round(stepped - read, 4),
        "generate": round(ended - stepped, 4),
    }
    results = {
        "prompt_logits": prompt_logits,
        "forced_logits": torch.stack(rows),
        "generated_ids": torch.tensor([token.id for token in done.tokens], dtype=torch.int64),
    }
    return done.finish_reason, seconds, results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
