"""A random model of a configuration, with a tokenizer that any text goes through."""

from collections.abc import Mapping
from pathlib import Path

import torch  # noqa: TID253 - imported by the worker that makes the model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: TID253 - the same
from transformers import (  # noqa: TID253 - the same
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import OurBug

_SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}
_SPREAD = 0.15  # wide, so that logits differ from token to token


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Write a Hugging Face directory: `config` with weights from `seed`; the same bytes always."""
    del inputs
    config = params["config"]
    seed = params["seed"]
    if not isinstance(config, Mapping) or not isinstance(seed, int):
        raise OurBug("config and seed are not what the plan says")
    tokenizer = _tokenizer()
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in _SPECIAL}
    kind = CONFIG_MAPPING[str(config["model_type"])]
    parsed = kind.from_dict({**config, **ids, "initializer_range": _SPREAD})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(parsed, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: nothing is learned, and nothing is lost."""
    tokens = [*_SPECIAL.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={each: n for n, each in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
