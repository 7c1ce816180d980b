"""Asks a vLLM Neuron tree for the likeliest tokens after every forced one, on a device.

    python probe_vllm.py --tree DIR --reference DIR --request FILE --out DIR

The engine starts on a copy of the tree's compile cache with VLLM_NEURON_DISABLE_WARMUP_COMPILE=1,
where a miss is fatal: an engine that starts has compiled nothing. Teacher forcing is the vendor's:
the prompt with j forced tokens is a request of one token (SDK vllm-neuron/docs/design/accuracy/
logit_validation_design.md). `outputs.npz`: `000.top_ids` and `000.top_logprobs`, [tokens, 5].
"""

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own, in the toolchain's Python
import probing

_LIKELIEST = 5


def ask(asked: argparse.Namespace) -> "dict[str, Any]":
    """Starts the engine and scores every prompt."""
    with tempfile.TemporaryDirectory() as root:
        cache = asked.tree / "neuron" / "compile_cache"
        shutil.copytree(cache, Path(root) / "neuron" / "compile_cache")
        os.environ |= {
            "VLLM_CACHE_ROOT": root,
            "VLLM_NEURON_DISABLE_WARMUP_COMPILE": "1",
            "NEURON_LIBTORCH_DISABLE_GRAPH_CAPTURE_BACKEND": "1",
        }
        vllm: Any = importlib.import_module("vllm")
        built = json.loads((asked.tree / "lmi-neuron.json").read_bytes())
        engine = vllm.LLM(
            model=str(asked.tree),
            tensor_parallel_size=built["tensor_parallel_degree"],
            max_model_len=built["max_seq_len"],
            max_num_seqs=built["max_batch_size"],
        )
        sampling = vllm.SamplingParams(temperature=0.0, max_tokens=1, logprobs=_LIKELIEST)
        found: dict[str, Any] = {}
        prompts = probing.prompts_of(asked.reference, probing.tokens_of(asked.request))
        for number, ids, forced in prompts:
            top = _likeliest(engine, sampling, ids.tolist(), forced.tolist())
            found[f"{number}.top_ids"] = np.array([[pair[0] for pair in row] for row in top])
            found[f"{number}.top_logprobs"] = np.array([[pair[1] for pair in row] for row in top])
    np.savez(asked.out / "outputs.npz", **found)
    return {"scored": len(prompts)}


def _likeliest(
    engine: Any, sampling: Any, ids: "list[int]", forced: "list[int]"
) -> "list[list[tuple[int, float]]]":
    """For every forced token, the likeliest ids with their log-probabilities, best first."""
    requests = [{"prompt_token_ids": ids + forced[:count]} for count in range(len(forced))]
    rows = []
    for answer in engine.generate(requests, sampling):
        (table,) = answer.outputs[0].logprobs
        pairs = sorted(((token, held.logprob) for token, held in table.items()), key=_by_logprob)
        rows.append(pairs[:_LIKELIEST])
    return rows


def _by_logprob(pair: "tuple[int, float]") -> float:
    return -pair[1]


if __name__ == "__main__":
    sys.exit(probing.main("probe_vllm", sys.argv[1:], ask))
