"""Stands in for `trtllm-build`."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from trtllm_simulator.carried import parts_in
from trtllm_simulator.engines import check_build, write_engine
from trtllm_simulator.machine import Machine, fail, maybe_killed, unquoted
from trtllm_simulator.parsers import build_parser

_REQUIRED = [
    "architecture",
    "dtype",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mapping",
]
_LIMITS = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")


def main(machine: Machine, argv: list[str]) -> None:
    """Build, or refuse."""
    args = build_parser(machine.build_table).parse_args(argv)
    maybe_killed(machine, "trtllm-build")
    checkpoint = Path(args.checkpoint_dir or "")
    config = checkpoint / "config.json"
    if args.checkpoint_dir is None or not config.is_file():
        fail(f"FileNotFoundError: [Errno 2] No such file or directory: '{config}'")
    pretrained: dict[str, Any] = json.loads(config.read_bytes())
    missing = [name for name in _REQUIRED if name not in pretrained]
    if missing:
        fail(f"KeyError: '{missing[0]}'")
    world = pretrained["mapping"]["world_size"]
    there = sorted(
        int(match.group(1))
        for path in checkpoint.iterdir()
        if (match := re.fullmatch(r"rank(\d+)\.safetensors", path.name))
    )
    if there != list(range(world)):
        unquoted(f"the checkpoint has ranks {there}, its config.json {world}")
    if args.workers is not None and args.workers < 1:
        unquoted(f"--workers {args.workers}")
    check_build(machine, pretrained, args)
    limits = {name: getattr(args, name) for name in _LIMITS}
    limits["gather_context_logits"] = args.gather_context_logits
    model = pretrained.pop("simulated_model", None)
    stands_for = {"hf": model} if model else {"checkpoint": dict(pretrained)}
    parts = parts_in(checkpoint, world)
    write_engine(machine, Path(args.output_dir), pretrained, limits, stands_for, parts)
    sys.stdout.write("Total time of building all engines: 00:00:00\n")
