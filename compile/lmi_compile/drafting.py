"""Drafting: a first recipe from a model and a target, held to the same plan as any other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import Unsupported
from lmi_compile.preview import Preview, preview
from lmi_recipes.instance import Instance
from lmi_recipes.reading import parse_recipe
from lmi_recipes.target import cpu_target_names, load_instance

_SCHEMA = "# yaml-language-server: $schema=recipe.schema.json   (lmi-compile schema > that file)\n"
# What an endpoint of that kind of hardware is built with, unless somebody chooses otherwise.
_NEURON = {"inf1": "neuron-inf1", "trn2": "neuron-vllm-2.33"}
_DEFAULT_NEURON = "neuron-nxdi-2.28"
_DEGREES = (1, 2, 4, 8, 16, 24, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a first recipe needs to be told.

    Attributes:
        name: the recipe's name.
        model: hub id, directory, `s3://` or `pypi://`.
        target: an instance type or a CPU level.
        dtype: None takes float32 on a CPU, else float16 on GPUs and bfloat16 on Neuron.
        quantization: a method of the schema.
        tensor_parallel_degree: None takes the smallest that fits.
        max_input_len: longest prompt, in tokens.
        max_seq_len: prompt and answer together, in tokens.
        max_batch_size: sequences at once.
    """

    name: str
    model: str
    target: str
    dtype: str | None = None
    quantization: str = "none"
    tensor_parallel_degree: int | None = None
    max_input_len: int = 384
    max_seq_len: int = 512
    max_batch_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A recipe's text, and what its plan says."""

    text: str
    preview: Preview


def draft_recipe(draft: Draft, path: Path, cache_dir: Path) -> Drafted:
    """Write the recipe's text, at the smallest tensor-parallel degree that fits.

    Args:
        draft: what was asked for.
        path: where the file will be; a model directory is named relative to it.
        cache_dir: where a hub model's config is kept.

    Raises:
        RecipesError: a word that recipes do not have.
        Unsupported: no degree fits; the plan's reasons are in it.
    """
    refused: Preview | None = None
    for candidate in _candidates(draft):
        text = _text(candidate)
        found = preview(parse_recipe(text.encode(), path), cache_dir)
        if found.answer["fits"] is not False:
            return Drafted(text=text, preview=found)
        refused = refused or found
    raise _unfit(draft, refused)


def _candidates(draft: Draft) -> Iterator[Draft]:
    if draft.tensor_parallel_degree is not None or draft.target in cpu_target_names():
        yield replace(draft, tensor_parallel_degree=draft.tensor_parallel_degree or 1)
        return
    ranks = load_instance(draft.target).ranks
    for degree in _DEGREES:
        if degree <= ranks:
            yield replace(draft, tensor_parallel_degree=degree)


def _text(draft: Draft) -> str:
    document: dict[str, JSONValue] = {
        "apiVersion": "lmi-compile/v1",
        "name": draft.name,
        "model": {"id": draft.model},
        **_built_with(draft),
        "tensor_parallel_degree": draft.tensor_parallel_degree,
        "quantization": {"method": draft.quantization},
        "shapes": {
            "max_batch_size": draft.max_batch_size,
            "max_input_len": draft.max_input_len,
            "max_seq_len": draft.max_seq_len,
        },
    }
    return _SCHEMA + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _built_with(draft: Draft) -> dict[str, JSONValue]:
    """Backend, toolchain, target and dtype, as the hardware asks for."""
    if draft.target in cpu_target_names():
        backend, toolchain, dtype = "aoti", "aoti-torch-2.13", "float32"
        target: dict[str, JSONValue] = {"cpu": draft.target}
    else:
        backend, toolchain, dtype = _for_instance(load_instance(draft.target))
        target = {"instance_type": draft.target}
    return {
        "backend": backend,
        "toolchain": toolchain,
        "target": target,
        "dtype": draft.dtype or dtype,
    }


def _for_instance(instance: Instance) -> tuple[str, str, str]:
    if instance.accelerator is None:
        what = f"{instance.name} has no accelerator"
        raise Unsupported(what, fix=f"name a CPU level: {', '.join(cpu_target_names())}")
    if instance.accelerator.vendor == "nvidia":
        return "tensorrt-llm", "trtllm-lmi-0.33", "float16"
    kind = instance.neuron_target or ""
    return "neuron", _NEURON.get(kind, _DEFAULT_NEURON), "bfloat16"


def _unfit(draft: Draft, found: Preview | None) -> Unsupported:
    problems = found.answer["problems"] if found else []
    assert isinstance(problems, list)  # noqa: S101 - every answer lists them
    why = "\n".join(
        f"{problem['field']}: {problem['message']}"
        for problem in problems
        if isinstance(problem, dict)
    )
    what = f"{draft.model} cannot be built for {draft.target}"
    return Unsupported(what, why, "lmi-compile targets lists other instance types")
