"""What `benchmarks/decode.py` compares: each a process of its own that answers questions.

Run as `peers.py KIND PATH THREADS BATCH`. It loads, prints `ready`, then reads one JSON object a
line, `{"prompt": [ids], "steps": n}`, and prints `{"prefill": s, "token": s, "cpu": s}`: wall
seconds of the whole prompt, wall seconds per decode step, CPU seconds of all. Every kind is asked
the same, in its own documented best way; what a library reports of itself is taken as it says.
"""

# ruff: noqa: PLC0415 - each process imports its own library and no other

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Seconds: TypeAlias = tuple[float, float]
Ask: TypeAlias = Callable[[list[int], int], Seconds]


def timed(prefill: Callable[[], Any], decode: Callable[[int], Any], steps: int) -> Seconds:
    """Wall seconds of `prefill`, and of `decode` per step."""
    start = time.monotonic()
    prefill()
    read = time.monotonic()
    for step in range(steps):
        decode(step)
    return read - start, (time.monotonic() - read) / steps


def ours(path: str, threads: int, batch: int) -> Ask:
    """A package that `lmi-compile` built, by its own loader."""
    import torch

    torch.set_num_threads(threads)
    sys.path.insert(0, path)
    from lmi_aoti_runtime.graphs import Graphs  # type: ignore[import-not-found]

    graphs = Graphs(Path(path))

    def ask(prompt: list[int], steps: int) -> Seconds:
        ids, rows, length = torch.tensor(prompt), torch.tensor([len(prompt) - 1]), len(prompt)

        def prefill() -> None:
            for slot in range(batch):
                graphs.prefill(ids, rows, slot)

        def decode(step: int) -> None:
            at = length + step
            if batch == 1:
                graphs.decode(prompt[step], at)
            else:
                graphs.step([prompt[step]] * batch, [at] * batch)

        return timed(prefill, decode, steps)

    return ask


def eager(path: str, threads: int, batch: int, *, compiled: bool = False) -> Ask:
    """transformers: float32, sdpa, a static cache, inference mode."""
    import torch
    from transformers import AutoModelForCausalLM, StaticCache

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    cache = StaticCache(config=model.config, max_cache_len=512)
    forward = torch.compile(model.forward) if compiled else model.forward

    def ask(prompt: list[int], steps: int) -> Seconds:
        ids = torch.tensor([prompt] * batch)

        def run(ids: torch.Tensor, first: int) -> None:
            positions = torch.arange(first, first + ids.shape[1])[None].expand(batch, -1)
            forward(input_ids=ids, position_ids=positions, past_key_values=cache, logits_to_keep=1)

        with torch.inference_mode():
            cache.reset()
            return timed(
                lambda: run(ids, 0),
                lambda step: run(ids[:, step : step + 1], len(prompt) + step),
                steps,
            )

    return ask


def llama_cpp(path: str, threads: int, batch: int) -> Ask:
    """llama.cpp through xllamacpp; its own timings."""
    import xllamacpp  # type: ignore[import-not-found]

    del batch
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.warmup = 512, 1, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_batch = params.n_ubatch = 512
    server = xllamacpp.Server(params)

    def ask(prompt: list[int], steps: int) -> Seconds:
        asked = {
            "prompt": prompt,
            "n_predict": steps + 1,
            "temperature": 0,
            "cache_prompt": False,
            "ignore_eos": True,
        }
        times = server.handle_completions(asked)["timings"]
        return times["prompt_ms"] / 1e3, times["predicted_per_token_ms"] / 1e3

    return ask


def openvino(path: str, threads: int, batch: int) -> Ask:
    """OpenVINO GenAI on the same GGUF; its own timings."""
    import numpy as np
    import openvino
    import openvino_genai as genai  # type: ignore[import-not-found]

    del batch
    pipe = genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)

    def ask(prompt: list[int], steps: int) -> Seconds:
        ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
        mask = openvino.Tensor(np.ones((1, len(prompt)), dtype=np.int64))
        config = genai.GenerationConfig(max_new_tokens=steps + 1, ignore_eos=True, do_sample=False)
        told = pipe.generate(genai.TokenizedInputs(ids, mask), config).perf_metrics
        return told.get_ttft().mean / 1e3, told.get_tpot().mean / 1e3

    return ask


def memory(path: str, threads: int, batch: int) -> Ask:
    """What a step cannot be faster than: every float32 weight, read once."""
    import torch
    from safetensors.torch import load_file

    del batch
    torch.set_num_threads(threads)
    tensors = load_file(Path(path) / "model.safetensors").values()
    weights = torch.cat([tensor.float().flatten() for tensor in tensors])

    def ask(prompt: list[int], steps: int) -> Seconds:
        del prompt
        return timed(lambda: None, lambda _: weights.sum(), steps)

    return ask


KINDS: dict[str, Callable[[str, int, int], Ask]] = {
    "ours": ours,
    "eager": eager,
    "torch.compile": lambda path, threads, batch: eager(path, threads, batch, compiled=True),
    "llama.cpp": llama_cpp,
    "openvino": openvino,
    "memory": memory,
}


def main(arguments: Sequence[str]) -> None:
    """Load, then answer until the input ends; stdout holds answers and nothing else."""
    kind, path, threads, batch = arguments
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ask = KINDS[kind](path, int(threads), int(batch))
    print("ready", file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        cpu = time.process_time()
        prefill, token = ask(asked["prompt"], asked["steps"])
        found = {"prefill": prefill, "token": token, "cpu": time.process_time() - cpu}
        print(json.dumps(found), file=answers)


if __name__ == "__main__":
    main(sys.argv[1:])
