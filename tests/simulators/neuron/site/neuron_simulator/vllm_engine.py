"""The simulated engine of vLLM Neuron: environment, options, cache keys and answers."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from neuron_simulator import base, files

_LEAST_BUCKET = 128
_KINDS = {"int": int, "float": float}
_MODELS = ("llama", "gpt_oss", "qwen3", "qwen3_vl")  # vllm-neuron/docs/model-recipes


class Engine:
    """What a start checks, and what it finds or compiles."""

    def __init__(self, asked: dict[str, Any], table: dict[str, Any]) -> None:
        self._rules = table["rules"]
        compiles = _environment(table)
        _numbers(asked)
        config = base.read_config(asked["model"])
        if config["model_type"] not in _MODELS:
            raise ValueError(f"[simulator] no model recipe for {config['model_type']}")
        here = base.machine()
        target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", here["instance"][:4])
        degree = asked["tensor_parallel_size"]
        if degree not in base.table("hardware")["degrees"].get(target, ()):
            raise ValueError(f"[simulator] {degree} cores on {target}")
        options = (asked.get("additional_config") or {}).get("neuron_config", {})
        _options(options, table["neuron_config"], asked, self._rules)
        keys = _keys(asked, config, options, target)
        if compiles:
            self._compile(keys, degree)
        else:
            self._find(keys, here)

    def answer(self, ids: list[int], logprobs: int | None) -> Any:
        """One token after `ids`, with the likeliest ones' log-probabilities."""
        if self._model is None:
            raise RuntimeError("[simulator] CPU compilation does not execute the graphs")
        import torch

        row = torch.log_softmax(self._model.logits(ids).double(), -1)
        values, best = row.topk(logprobs or 1)
        table = {
            int(token): SimpleNamespace(logprob=float(value))
            for token, value in zip(best, values, strict=True)
        }
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=[int(best[0])], logprobs=[table])]
        )

    def _compile(self, keys: list[str], degree: int) -> None:
        self._model = None
        base.compile_graph(degree)
        cache = Path(os.environ["VLLM_CACHE_ROOT"]) / "neuron" / "compile_cache"
        for key in keys:
            (cache / key).mkdir(parents=True, exist_ok=True)
            (cache / key / "graph.neff").write_bytes(base.NOT_A_NEFF + key.encode())

    def _find(self, keys: list[str], here: dict[str, Any]) -> None:
        if not here["devices"]:
            raise RuntimeError(base.quoted("no-device"))
        cache = Path(os.environ["VLLM_CACHE_ROOT"]) / "neuron" / "compile_cache"
        missing = [key for key in keys if not (cache / key / "graph.neff").is_file()]
        if missing and os.environ.get("VLLM_NEURON_DISABLE_WARMUP_COMPILE") == "1":
            raise RuntimeError(f"[simulator] {self._rules['miss']}: {missing[0]}")
        base.say(f"{len(keys) - len(missing)} graphs found, {len(missing)} compiled")
        from neuron_simulator.answering import Model

        self._model = Model()


def _environment(table: dict[str, Any]) -> bool:
    """Hold the plugin's own variables against the documents; returns whether it compiles only."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("VLLM_NEURON_", "NEURON_LIBTORCH_"))
    }
    for name, value in given.items():
        kind = table["environment"].get(name)
        if kind is None and name != "NEURON_LIBTORCH_DISABLE_GRAPH_CAPTURE_BACKEND":
            raise ValueError(f"[simulator] no document names {name}")
        if kind == "bool" and value not in {"0", "1"}:
            raise ValueError(f"[simulator] {name} is 0 or 1, not {value}")
        if kind in _KINDS:
            _KINDS[kind](value)
    compiles = given.get("VLLM_NEURON_CPU_COMPILE") == "1"
    rules = table["rules"]
    if compiles and given.get("VLLM_NEURON_CPU_MODE") == "1":
        raise ValueError(f"[simulator] {rules['modes']}")
    if compiles and "NEURON_PLATFORM_TARGET_OVERRIDE" not in os.environ:
        raise ValueError(f"[simulator] {rules['override']}")
    target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    if target not in base.table("neuronx-cc")["flags"]["--target"]["choices"]:
        raise ValueError(f"[simulator] --target has no {target}")
    warmup = given.get("VLLM_NEURON_DISABLE_WARMUP_COMPILE") == "1"
    if warmup and given.get("NEURON_LIBTORCH_DISABLE_COMPILE_CACHE") == "1":
        raise ValueError(f"[simulator] {rules['warmup']}")
    return compiles


def _numbers(asked: dict[str, Any]) -> None:
    for name in ("tensor_parallel_size", "max_model_len", "max_num_seqs"):
        if not isinstance(asked[name], int) or asked[name] < 1:
            raise ValueError(f"[simulator] {name} is {asked[name]!r}")


def _options(
    options: dict[str, Any], known: dict[str, str], asked: dict[str, Any], rules: dict[str, str]
) -> None:
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"[simulator] neuron_config has no {name}")
        if known[name].startswith("list") and not isinstance(value, list):
            raise ValueError(f"[simulator] {name} is a {known[name]}")
    buckets = options.get("num_seqs_buckets")
    if buckets and buckets[-1] != asked["max_num_seqs"]:
        raise ValueError(f"[simulator] num_seqs_buckets: {rules['num_seqs']}")


def _keys(
    asked: dict[str, Any], config: dict[str, Any], options: dict[str, Any], target: str
) -> list[str]:
    """A key for each graph, of what the documents say goes into one; the real digest is closed."""
    shapes = [f"prefill {size}" for size in _powers(_LEAST_BUCKET, asked["max_model_len"])]
    shapes += [f"decode {size}" for size in _powers(1, asked["max_num_seqs"])]
    same = [config, options, asked["tensor_parallel_size"], target, files.compiler_version()]
    return [
        hashlib.md5(json.dumps([shape, *same]).encode(), usedforsecurity=False).hexdigest()
        for shape in shapes
    ]


def _powers(least: int, most: int) -> list[int]:
    found = [min(least, most)]
    while found[-1] < most:
        found.append(min(found[-1] * 2, most))
    return found
