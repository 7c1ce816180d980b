"""Runs the prompts of a verification through the packaged graphs.

    python -m lmi_aoti_runtime.probe --prompts DIR --out DIR     (in the packaged tree)

Reads `prompts.json` and `prompts.safetensors`; writes `outputs.safetensors`, then `outputs.json`.
For prompt number i: `i.prompt_logits` [r, V] of the wanted rows from prefill; `i.forced_logits`
[m, V], the given continuation through decode, row 0 being the prompt's last position, the rows
after it in turn through the graph for one sequence and the one for all; `i.generated_ids` [g], the
greedy continuation that the handler's own loop makes, with the `i.generated_log_probs` that it
reports; `i.text_ids`, the tokens that the tree's tokenizer makes of
the text; of a corpus's texts `i.token_log_probs` [n - 1]; and `i.batch_logits` [b, V] of prompts
that were decoded together. `sampling.ids` are tokens that the handler's own chooser drew.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from .generate import generate
from .graphs import Graphs
from .probing import Found, Tensors, main, say
from .request import Parameters
from .sampling import Chooser
from .service import Service


def _ask(service: Service, listing: Mapping[str, Any], given: Tensors) -> Found:
    tensors: dict[str, torch.Tensor] = {}
    told: list[dict[str, Any]] = []
    for index, prompt in enumerate(listing["prompts"]):
        number = f"{index:03d}"
        asked = {
            name: given[f"{number}.{name}"]
            for name in ("input_ids", "forced_ids", "rows")
            if f"{number}.{name}" in given
        }
        told.append({"id": prompt["id"]})
        results = _run(service, asked, told[-1], corpus=prompt.get("corpus", False))
        results["text_ids"] = torch.tensor(service.tokenizer.encode(prompt["text"]).ids)
        tensors |= {f"{number}.{name}": tensor for name, tensor in results.items()}
        say(f"prompt {prompt['id']}: {len(asked['input_ids'])} tokens, {told[-1]['seconds']}")
    if service.graphs.batch > 1:
        tensors |= _together(service.graphs, listing.get("batch") or {}, given)
    if listing.get("sampling"):
        tensors["sampling.ids"] = _drawn(tensors, listing["sampling"])
    outputs = {
        "format": 2,
        "vocab_size": service.graphs.vocab_size,
        "eos_token_ids": sorted(service.eos_token_ids),
        "prompts": told,
    }
    return Found(tensors, outputs)


def _run(
    service: Service, asked: Tensors, told: dict[str, Any], *, corpus: bool
) -> dict[str, torch.Tensor]:
    """One prompt's tensors; `told` learns how its continuation ended, and the seconds."""
    graphs, ids, forced = service.graphs, asked["input_ids"], asked["forced_ids"]
    every = torch.arange(len(ids))
    rows = asked.get("rows", every)
    start = time.perf_counter()
    logits = graphs.prefill(ids, every if corpus else rows)
    read = time.perf_counter()
    steps = [logits[-1]]  # the last row wanted is the last position
    for step, token in enumerate(forced[:-1].tolist()):
        steps.append(_decode(graphs, token, len(ids) + step, together=step % 2 == 1))
    stepped = time.perf_counter()
    parameters = Parameters(max_new_tokens=len(forced))
    done = generate(graphs, service.tokenizer, ids.tolist(), parameters, service.eos_token_ids)
    ended = time.perf_counter()
    told["finish_reason"] = done.finish_reason
    told["pieces"] = [token.text for token in done.tokens]
    told["seconds"] = {
        "prefill": round(read - start, 4),
        "forced": round(stepped - read, 4),
        "generate": round(ended - stepped, 4),
    }
    results = {
        "prompt_logits": logits[rows] if corpus else logits,
        "forced_logits": torch.stack(steps),
        "generated_ids": torch.tensor([token.id for token in done.tokens], dtype=torch.int64),
        "generated_log_probs": torch.tensor([token.log_prob for token in done.tokens]),
    }
    if corpus:
        before = logits[:-1]
        chosen = before.gather(1, ids[1:, None])[:, 0]
        results["token_log_probs"] = chosen - before.logsumexp(1)
    return results


def _together(graphs: Graphs, batch: Mapping[str, Any], given: Tensors) -> dict[str, torch.Tensor]:
    """Prompts decoded together, as many at a time as the graphs take."""
    tensors: dict[str, torch.Tensor] = {}
    names = [f"{index:03d}" for index in batch.get("prompts", ())]
    for start in range(0, len(names), graphs.batch):
        group = names[start : start + graphs.batch]
        rows = []
        for slot, name in enumerate(group):
            ids = given[f"{name}.input_ids"]
            rows.append([graphs.prefill(ids, torch.tensor([len(ids) - 1]), slot)[0]])
        for step in range(batch["tokens"] - 1):
            tokens, places = [0] * graphs.batch, [0] * graphs.batch
            for slot, name in enumerate(group):
                forced = given[f"{name}.forced_ids"]
                tokens[slot] = int(forced[min(step, len(forced) - 1)])
                places[slot] = len(given[f"{name}.input_ids"]) + step
            for slot, row in enumerate(graphs.step(tokens, places)[: len(group)]):
                rows[slot].append(row)
        for name, found in zip(group, rows, strict=True):
            most = len(given[f"{name}.forced_ids"])
            tensors[f"{name}.batch_logits"] = torch.stack(found[:most])
        say(f"{len(group)} prompts together")
    return tensors


def _drawn(tensors: Tensors, sampling: Mapping[str, Any]) -> torch.Tensor:
    """The first token after a prompt, drawn with the seeds 0, 1, 2, ..."""
    row = tensors[f"{sampling['prompt']:03d}.forced_logits"][0]
    ids = []
    for seed in range(sampling["draws"]):
        parameters = Parameters(do_sample=True, temperature=sampling["temperature"], seed=seed)
        ids.append(Chooser(parameters, ()).choose(row)[0])
    return torch.tensor(ids)


def _decode(graphs: Graphs, token: int, position: int, *, together: bool) -> torch.Tensor:
    if not together:
        return graphs.decode(token, position)
    idle = [0] * (graphs.batch - 1)
    return graphs.step([token, *idle], [position, *idle])[0]


if __name__ == "__main__":
    sys.exit(main(Service, _ask))
