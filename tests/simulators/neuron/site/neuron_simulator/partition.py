"""SIMULATOR of LMI 0.30's `partition` for transformers-neuronx: properties first, then the tree."""

import argparse
import os
from pathlib import Path
from typing import Any

from neuron_simulator import base, files


def main(arguments: list[str]) -> int:
    table = base.table("partition")
    parser = argparse.ArgumentParser(prog="partition", allow_abbrev=False)
    asked = base.parser_of(table["flags"], parser).parse_args(arguments)
    properties = _properties(Path(asked.properties_dir))
    for name, value in (
        ("model_id", asked.model_id),
        ("save_mp_checkpoint_path", asked.save_mp_checkpoint_path),
        ("tensor_parallel_degree", asked.tensor_parallel_degree),
    ):
        if value is not None:
            properties[name] = value
    _check(properties, table)
    degree = int(properties.get("tensor_parallel_degree", "1"))
    base.need_device(degree)
    for name in ("model_id", "save_mp_checkpoint_path"):
        if name not in properties:
            base.refuse(f"KeyError: 'option.{name}'")
    config = base.read_config(properties["model_id"])
    model_types = ("opt", "gpt2", "gptj", "gpt_neox", "llama", "mistral", "mixtral", "bloom")
    if config["model_type"] not in model_types:
        base.refuse(f"KeyError: {config['model_type']}")
    base.compile_graph(degree)
    _write(Path(properties["save_mp_checkpoint_path"]), config, properties, degree)
    return 0


def _properties(folder: Path) -> dict[str, str]:
    path = folder / "serving.properties"
    if not path.is_file():
        base.refuse(f"FileNotFoundError: {path}")
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    named = dict(line.split("=", 1) for line in lines)
    if named.get("option.entryPoint") != "djl_python.transformers_neuronx":
        base.refuse("[simulator] option.entryPoint must be djl_python.transformers_neuronx")
    return {name.removeprefix("option."): value for name, value in named.items()}


def _check(properties: dict[str, str], table: dict[str, Any]) -> None:
    """The property class of the release: types, words, and the combinations that it refuses."""
    refusals, known = table["refusals"], table["properties"]
    _check_values(properties, refusals, known["tnx"])
    if properties.get("rolling_batch") not in (None, *known["tnx_rolling_batch"]):
        base.refuse("ValidationError: rolling_batch")
    if (
        properties.get("rolling_batch", "disable") != "disable"
        and int(properties.get("batch_size", "1")) > 1
    ):
        base.refuse(f"ValueError: {refusals['batch']}")
    loader, schema = properties.get("model_loader"), properties.get("partition_schema")
    if loader == "tnx" and schema == "optimum":
        base.refuse(f"ValueError: {refusals['tnx_optimum']}")
    if loader == "optimum" and schema != "optimum":
        base.refuse(f"ValueError: {refusals['optimum_schema']}")
    if loader == "vllm":
        base.refuse(f"ValueError: {refusals['vllm']}")


def _check_values(
    properties: dict[str, str], refusals: dict[str, str], known: dict[str, Any]
) -> None:
    for name, value in properties.items():
        spec = known.get(name)
        if spec is None:
            continue
        if spec["type"] == "int" and not value.isdigit():
            base.refuse(f"ValidationError: {name}: {value} is not an integer")
        if spec["type"] == "csv_int" and not all(part.isdigit() for part in value.split(",")):
            base.refuse(f"ValidationError: {name}: {value} is not a list of integers")
        words = [str(word) for word in spec.get("choices", [])]
        if words and value not in words:
            text = refusals["gqa"].format(gqa=value) if name == "group_query_attention" else ""
            base.refuse(f"ValueError: {text or f'{name}: {value} is not one of {words}'}")


def _write(out: Path, config: dict[str, Any], properties: dict[str, str], degree: int) -> None:
    block = {
        "auto_cast_type": properties.get("dtype"),
        "batch_size": int(properties.get("max_rolling_batch_size", "1")),
        "compiler_type": "neuronx-cc",
        "compiler_version": files.compiler_version(),
        "num_cores": degree,
        "sequence_length": int(properties.get("n_positions", "128")),
    }
    files.write_json(out / "config.json", {**config, "neuron": block})
    compiled = out / "compiled"
    compiled.mkdir(parents=True, exist_ok=True)
    cache = Path(os.environ.get("NEURON_COMPILE_CACHE_URL", "/var/tmp/neuron-compile-cache"))  # noqa: S108 - the real default
    flags = ["--target=trn1", "--model-type=transformer", "--auto-cast=none"]
    for name in ("context", "decode"):
        files.saved_graph(compiled, files.cache_entry(cache, f"{name} on {degree}", flags))
    for rank in range(degree):
        files.weights(compiled / f"split_{rank}.safetensors", rank)
    (compiled / "VERSION").write_text(f"{files.compiler_version()}\n")
    kept = {k: v for k, v in properties.items() if k not in {"model_id", "save_mp_checkpoint_path"}}
    lines = [f"option.{name}={value}" for name, value in sorted(kept.items()) if name != "engine"]
    (out / "serving.properties").write_text("\n".join(["engine=Python", *lines]) + "\n")
