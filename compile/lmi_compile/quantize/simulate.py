"""A checkpoint run on a CPU: Hugging Face's forward with the checkpoint's own config and numbers.

The config is made from the checkpoint alone, so that a lost rotary base shows in the logits.
"""

from typing import Any

import torch  # noqa: TID253 - nobody imports this module before it is named
from torch import nn  # noqa: TID253 - as above
from transformers import (  # noqa: TID253 - as above  # noqa: TID253 - as above
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.integrations.sdpa_attention import (  # noqa: TID253 - as above
    sdpa_attention_forward,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS  # noqa: TID253 - as above
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: TID253 - as above

from lmi_compile.quantize.checkpoint import Checkpoint
from lmi_compile.quantize.linears import SimulatedLinear, fake_quantised, linear_of
from lmi_compile.quantize.names import names_of, spread, spread_linears

_CONFIGS: dict[str, type[PreTrainedConfig]] = {
    "LlamaForCausalLM": LlamaConfig,
    "MistralForCausalLM": MistralConfig,
    "Qwen2ForCausalLM": Qwen2Config,
    "Qwen3ForCausalLM": Qwen3Config,
}
_QUANTISED_KV = "lmi_quantised_kv"
_TENSORRT_LLM_ROTARY_BASE = 10000.0


def simulated(checkpoint: Checkpoint) -> nn.Module:
    """The model that an engine of this checkpoint would compute, in float32."""
    config = model_config(checkpoint.config)
    config._attn_implementation = _attention(checkpoint)  # noqa: SLF001 - transformers' own switch
    model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    names = names_of(checkpoint.config["architecture"])
    layers = checkpoint.config["num_hidden_layers"]
    for ours, theirs in spread(names.plain, layers).items():
        for kind in ("weight", "bias"):
            stored = checkpoint.tensors.get(f"{ours}.{kind}")
            if stored is not None:
                model.get_parameter(f"{theirs}.{kind}").data = stored.float()
    for ours, parts in spread_linears(names, layers).items():
        linear, start = linear_of(checkpoint, ours), 0
        for part, count in zip(parts, _row_counts(checkpoint, ours, parts), strict=True):
            model.set_submodule(part, SimulatedLinear(linear.rows(start, count)))
            start += count
    return model


def model_config(config: dict[str, Any]) -> PreTrainedConfig:
    """The Hugging Face config that a checkpoint's config.json stands for."""
    if config["architecture"] == "GPT2LMHeadModel":
        return GPT2Config(
            vocab_size=config["vocab_size"],
            n_positions=config["max_position_embeddings"],
            n_embd=config["hidden_size"],
            n_layer=config["num_hidden_layers"],
            n_head=config["num_attention_heads"],
            n_inner=config["intermediate_size"],
            activation_function="gelu_new",  # TensorRT-LLM's gelu is the tanh form
            layer_norm_epsilon=config["norm_epsilon"],
            tie_word_embeddings=False,
        )
    rope = {"rope_type": "default", **(config.get("rotary_scaling") or {})}
    rope["rope_theta"] = config.get("rotary_base", _TENSORRT_LLM_ROTARY_BASE)
    return _CONFIGS[config["architecture"]](
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config["num_key_value_heads"],
        head_dim=config["head_size"],
        hidden_act=config["hidden_act"],
        max_position_embeddings=config["max_position_embeddings"],
        rms_norm_eps=config["norm_epsilon"],
        rope_parameters=rope,
        tie_word_embeddings=False,
    )


def _row_counts(checkpoint: Checkpoint, name: str, parts: tuple[str, ...]) -> tuple[int, ...]:
    if len(parts) == 1:
        return (linear_of(checkpoint, name).weight.shape[0],)
    heads, kv_heads, size = checkpoint.heads
    return heads * size, kv_heads * size, kv_heads * size


def _attention(checkpoint: Checkpoint) -> str:
    """SDPA, with keys and values rounded as the KV cache rounds them."""
    algo = checkpoint.config["quantization"].get("kv_cache_quant_algo")
    if algo is None:
        return "sdpa"
    tensors = checkpoint.tensors

    def forward(
        module: Any,  # noqa: ANN401 - transformers' attention protocol
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **rest: Any,  # noqa: ANN401 - as above
    ) -> tuple[torch.Tensor, None]:
        layer = f"transformer.layers.{module.layer_idx}.attention"
        kinds = {"FP8": "fp8", "INT8": "int8"}[algo]
        scales = [tensors[f"{layer}.{which}_cache_scaling_factor"] for which in ("k", "v")]
        key = fake_quantised(key, scales[0], kinds)
        value = fake_quantised(value, scales[1], kinds)
        done: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **rest
        )
        return done

    ALL_ATTENTION_FUNCTIONS.register(_QUANTISED_KV, forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_QUANTISED_KV, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return _QUANTISED_KV
