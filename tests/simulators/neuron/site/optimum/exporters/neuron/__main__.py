"""SIMULATOR of `python -m optimum.exporters.neuron` (optimum-neuron 0.4.5), decoders only."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from neuron_simulator import base, files

_STORED = {"inf2": "trn1", "trn1": "trn1", "trn1n": "trn1", "trn2": "trn2"}


def main(arguments: list[str]) -> int:
    table = base.table("optimum")
    parser = argparse.ArgumentParser(prog="python -m optimum.exporters.neuron", allow_abbrev=False)
    flags = dict(table["flags"])
    base.parser_of(flags, parser)
    parser.add_argument("output", type=Path)
    asked = parser.parse_args(arguments)
    if asked.instance_type is None and not base.machine()["devices"]:
        parser.error("the following arguments are required: --instance_type")
    config = base.read_config(asked.model)
    model_type = config["model_type"]
    if asked.task not in table["models"]["nxd_decoders"].get(model_type, []):
        base.refuse(f"[simulator] optimum-neuron 0.4.5 exports no {model_type} for {asked.task}")
    target = _STORED[asked.instance_type]
    if os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", target) != target:
        base.say("NEURON_PLATFORM_TARGET_OVERRIDE is set anew")
    for flag in table["ignored_for_decoders"]:
        if any(each.startswith(flag) for each in arguments):
            base.say(f"{flag} is ignored for decoders")
    _export(asked, config, target, table["config"])
    return 0


def _export(
    asked: argparse.Namespace, config: dict[str, Any], target: str, fields: dict[str, Any]
) -> None:
    degree = asked.tensor_parallel_size
    base.compile_graph(degree)
    files.torchscript(asked.output / "model.pt", ["context_encoding", "token_generation"])
    files.write_json(asked.output / "config.json", config)
    written = {name: spec["default"] for name, spec in fields.items()}
    length = asked.sequence_length or min(config["max_position_embeddings"], 4096)
    written |= {
        "batch_size": asked.batch_size or 1,
        "sequence_length": length,
        "tp_degree": degree,
        "torch_dtype": config.get("torch_dtype"),
        "target": target,
        "checkpoint_id": None,
    }
    files.write_json(asked.output / "neuron_config.json", written)
    if Path(asked.model).is_dir():
        folder = asked.output / "checkpoint" / "weights"
        for rank in range(degree):
            files.weights(folder / f"tp{rank}_sharded_checkpoint.safetensors", rank)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
