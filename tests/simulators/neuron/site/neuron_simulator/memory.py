"""A rough count of what one core has to hold; written apart from the planner's arithmetic."""

import argparse
from typing import Any

_SIZES = {"float32": 4}


def needed_bytes(
    config: dict[str, Any], asked: argparse.Namespace, degree: int, length: int
) -> float:
    size = _SIZES.get(str(asked.torch_dtype), 2)
    width, depth = config["hidden_size"], config["num_hidden_layers"]
    queries = config["num_attention_heads"]
    keys = config.get("num_key_value_heads", queries)
    experts = config.get("num_local_experts", 1)
    per_head = config.get("head_dim", width // queries)
    block = width * per_head * (2 * queries + 2 * keys)
    block += 3 * width * config["intermediate_size"] * experts
    ends = 2 * config["vocab_size"] * width
    stored = 1 if asked.quantized else size
    cached = 2 * depth * max(keys, degree) * per_head * length * (asked.batch_size or 1) * size
    return float((depth * block * stored + ends * size + cached) / degree)
