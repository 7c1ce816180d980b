"""`--smoke`: a recipe's architecture with two random layers, through the whole flow in a minute.

Heads, widths and vocabulary are made small as well, in the architecture's own proportions, so that
a model of 70 billion parameters is tried on a laptop. What comes out is marked as a simulator's
work: no registry that people use takes it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.errors import Unsupported
from lmi_compile.feasibility.reading import read_config_of
from lmi_compile.model_steps import random_model
from lmi_recipes.model import Package, Publish, Quantization, Recipe, Shapes, Target, Verify
from lmi_recipes.reading import LoadedRecipe
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import load_toolchain

# Decoders whose attention the embedded backend exports, by config.json's model_type; a tree that
# is wrong all the same is refused by its verdict.
CARRIED = (
    "falcon", "gemma", "gpt2", "gpt_bigcode", "gptj", "llama", "mistral", "mixtral", "phi", "qwen2",
)  # fmt: skip
LAYERS, HEADS, HEAD_WIDTH, VOCABULARY, POSITIONS = 2, 8, 16, 320, 512
_TOOLCHAIN, _CPU = "aoti-torch-2.13", "x86-64-v3"
_LONGEST_NAME = 128


def smoke_order(loaded: LoadedRecipe, cache: Path) -> Order:
    """The order of a recipe's smoke build: its architecture on the embedded backend, in float32.

    Args:
        loaded: a valid recipe, of any backend.
        cache: where configs of hub models are kept.

    Raises:
        Unsupported: it has no config.json, or its family is not carried.
        CompileError: its config.json is wrong.
    """
    reads_model = loaded.recipe.backend != "null"
    config = read_config_of(loaded, cache) if reads_model else None
    family = str((config or {}).get("model_type"))
    if config is None or family not in CARRIED:
        what = f"{loaded.recipe.name}: no smoke build for model type {family}"
        raise Unsupported(what, fix=f"carried are {', '.join(CARRIED)}")
    recipe = _small(loaded.recipe)
    return Order(
        recipe=recipe,
        toolchain=replace(load_toolchain(_TOOLCHAIN), simulated=True),
        cpu=load_cpu_target(_CPU),
        model=random_model(shrunk(config)),
        draft=True,
    )


def shrunk(config: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """The same architecture, small: two layers, eight heads at most, its own ratios elsewhere.

    Args:
        config: a decoder's config.json.
    """
    old_heads = _number(config, "num_attention_heads", "n_head") or HEADS
    heads = min(HEADS, old_heads)
    old_width = _number(config, "hidden_size", "n_embd") or heads * HEAD_WIDTH
    width = heads * HEAD_WIDTH
    small = dict(config)
    for name in ("quantization_config", "auto_map", "torch_dtype", "dtype", "_name_or_path"):
        small.pop(name, None)
    changes: dict[str, JSONValue] = {
        **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), LAYERS),
        **dict.fromkeys(("num_attention_heads", "n_head"), heads),
        **dict.fromkeys(("hidden_size", "n_embd"), width),
        **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), POSITIONS),
        "vocab_size": VOCABULARY,
        "head_dim": HEAD_WIDTH,
        "rotary_dim": HEAD_WIDTH // 2,
    }
    for name in ("num_key_value_heads", "num_kv_heads", "n_head_kv"):
        changes[name] = max(1, heads * (_number(config, name) or old_heads) // old_heads)
    for name in ("intermediate_size", "n_inner", "ffn_hidden_size"):
        changes[name] = max(1, width * (_number(config, name) or 4 * old_width) // old_width)
    small |= {name: value for name, value in changes.items() if small.get(name) is not None}
    kinds = small.get("layer_types")
    if isinstance(kinds, list):
        small["layer_types"] = kinds[:LAYERS]
    return small


def _small(recipe: Recipe) -> Recipe:
    return replace(
        recipe,
        name=f"smoke-{recipe.name}"[:_LONGEST_NAME],
        backend="aoti",
        toolchain=_TOOLCHAIN,
        target=Target(cpu=_CPU),
        tensor_parallel_degree=1,
        pipeline_parallel_degree=1,
        dtype="float32",
        quantization=Quantization(),
        shapes=Shapes(max_input_len=24, max_seq_len=48),
        runtime={},
        verify=Verify(),
        package=Package(),
        publish=Publish(),
    )


def _number(config: Mapping[str, JSONValue], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)
