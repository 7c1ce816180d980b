"""SIMULATOR of NxD Inference 0.8's `inference_demo`: it parses, checks and writes."""

import argparse
import os
from pathlib import Path
from typing import Any

from neuron_simulator import base, files
from neuron_simulator.memory import needed_bytes


def main(arguments: list[str]) -> int:
    table = base.table("inference_demo")
    asked = _parser(table).parse_args(arguments)
    tasks = table["model_types"][asked.model_type]
    if asked.task_type not in tasks:
        text = table["refusals"]["task"]
        base.refuse(f"AssertionError: {text.format(args=asked)}")
    if (
        os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
        not in (base.table("hardware")["environment"]["NEURON_PLATFORM_TARGET_OVERRIDE"])
    ):
        base.refuse("[simulator] NEURON_PLATFORM_TARGET_OVERRIDE names no target")
    if not base.machine()["devices"] and "NEURON_PLATFORM_TARGET_OVERRIDE" not in os.environ:
        base.refuse(base.quoted("no-device"))
    config = base.read_config(asked.model_path)
    _check_config(asked, table["refusals"])
    _check_target(asked)
    if not asked.skip_compile:
        _compile(asked, config)
    if not asked.compile_only and not asked.compile_dry_run:
        base.need_device(asked.tp_degree or 1)
        base.say("loaded; a simulator generates nothing")
    return 0


def _parser(table: dict[str, Any]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="inference_demo", allow_abbrev=False)
    base.parser_of(table["global_flags"], top)
    subcommands = top.add_subparsers(dest="action", required=True)
    base.parser_of(table["run"]["flags"], subcommands.add_parser("run", allow_abbrev=False))
    return top


def _check_config(asked: argparse.Namespace, refusals: dict[str, str]) -> None:
    """NeuronConfig's own assertions, in its order."""
    length = asked.max_length or asked.seq_len or 128
    context = asked.max_context_length or asked.seq_len or 128
    if context > length:
        base.refuse(f"AssertionError: {refusals['context']}")
    for name, limit, key, spelled in (
        ("context_encoding_buckets", context, "context_bucket", "max_context_length"),
        ("token_generation_buckets", length, "token_bucket", "max_length"),
    ):
        buckets = sorted(getattr(asked, name) or [])
        if buckets and buckets[-1] > limit:
            text = refusals[key].replace(f"{{self.{name}[-1]}}", str(buckets[-1]))
            base.refuse("AssertionError: " + text.replace(f"{{self.{spelled}}}", str(limit)))
    if asked.quantized:
        if asked.quantized_checkpoints_path is None:
            base.refuse(f"AssertionError: {refusals['quantized_path']}")
        quantization = base.table("quantization")
        if asked.quantization_dtype not in (None, *quantization["quantization_dtype"]):
            base.refuse("[simulator] QuantizedDtype has no such dtype")
        supported = quantization["save_quantized_state_dict_supports"]
        if asked.quantization_type not in (None, *supported):
            base.refuse(
                "[simulator] save_quantized_state_dict supports only " + ", ".join(supported)
            )


def _check_target(asked: argparse.Namespace) -> None:
    target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
    if asked.logical_nc_config == 2 and not target.startswith(("trn2", "trn3")):
        base.refuse(f"NCC_EARG001: {base.table('refusals')['codes']['NCC_EARG001']}")


def _compile(asked: argparse.Namespace, config: dict[str, Any]) -> None:
    degree, length = asked.tp_degree or 1, asked.seq_len or 128
    target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
    per_core, limit = needed_bytes(config, asked, degree, length), _core_bytes(target)
    if per_core > limit:
        base.refuse(f"NCC_EOOM001: {base.table('refusals')['codes']['NCC_EOOM001']}")
    base.compile_graph(degree)
    out = Path(asked.compiled_model_path)
    work = Path(os.environ.get("BASE_COMPILE_WORK_DIR", "/tmp/nxd_model/"))  # noqa: S108 - the real default
    for tag in ("context_encoding_model", "token_generation_model"):
        files.work_folder(work, tag, 0)
        if cache := os.environ.get("NEURON_COMPILE_CACHE_URL"):
            files.cache_entry(Path(cache), tag, [f"--target={target}", "--auto-cast=none"])
    fields = base.table("neuron_config")["fields"]
    given = {name: value for name, value in vars(asked).items() if name in fields}
    written = {name: default for name, default in fields.items() if not _derived(default)}
    written |= {name: value for name, value in given.items() if value is not None}
    files.write_json(
        out / "neuron_config.json",
        {"_name_or_path": asked.model_path, **config, "neuron_config": written},
    )
    if asked.compile_dry_run:
        return
    files.torchscript(out / "model.pt", ["context_encoding_model", "token_generation_model"])
    if asked.save_sharded_checkpoint:
        for rank in range(degree):
            files.weights(out / "weights" / f"tp{rank}_sharded_checkpoint.safetensors", rank)


def _derived(default: object) -> bool:
    return isinstance(default, str) and default.startswith("= ")


def _core_bytes(target: str) -> int:
    chip = {"inf2": "inferentia2", "trn2": "trainium2"}.get(target, "trainium1")
    entry = base.table("hardware")["chips"][chip]
    return int(entry["mem_gib"] * 2**30 // entry.get("logical_cores_lnc2", entry["cores"]))
