"""Names under which checkpoints store what transformers holds as one tensor.

Mixtral and Qwen2-MoE store each expert's matrices by themselves; the model has them stacked, gate
above up. Source: transformers' `conversion_mapping.py`, "mixtral" and "qwen2_moe".
"""

import re
from collections import defaultdict
from collections.abc import Iterable

_EXPERT = re.compile(
    r"(?P<layer>.+)\.(?:block_sparse_moe|mlp)\.experts\.(?P<number>\d+)\.(?P<part>\w+)\.weight"
)
_PLACES = {
    "w1": ("gate_up_proj", 0),
    "gate_proj": ("gate_up_proj", 0),
    "w3": ("gate_up_proj", 1),
    "up_proj": ("gate_up_proj", 1),
    "w2": ("down_proj", 0),
    "down_proj": ("down_proj", 0),
}
_GATE = ".block_sparse_moe.gate.weight"


def stacks(stored: Iterable[str]) -> dict[str, list[list[str]]]:
    """The model's names that are stored in parts: for each expert, what is put under another."""
    found: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    for name in stored:
        expert = _EXPERT.fullmatch(name)
        if expert is not None and expert["part"] in _PLACES:
            stack, place = _PLACES[expert["part"]]
            found[f"{expert['layer']}.mlp.experts.{stack}"][int(expert["number"]), place] = name
    return {
        stack: [
            [parts[key] for key in sorted(parts) if key[0] == number]
            for number in sorted({number for number, _ in parts})
        ]
        for stack, parts in found.items()
    }


def renamed(stored: str) -> str:
    """The model's name of a tensor that is stored whole."""
    return stored.replace(_GATE, ".mlp.gate.weight") if stored.endswith(_GATE) else stored
