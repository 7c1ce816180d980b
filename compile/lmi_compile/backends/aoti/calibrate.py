"""The calibrate step: a text, cut into samples, shows the ranges of the model's activations."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import torch  # noqa: TID253 - the worker's own process imports this module
from tokenizers import Tokenizer  # noqa: TID253 - the same
from transformers import AutoModelForCausalLM  # noqa: TID253 - the same

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.progress import say, stage
from lmi_compile.backends.aoti.ranges import observe, write_ranges
from lmi_compile.errors import ModelFault, Unsupported


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes the ranges.

    Args:
        params: `num_samples`, `max_seq_len` (tokens of each), `seed` (of the choice); `sha256` of
            the text, which is in the key.
        inputs: `model` (a Hugging Face directory) and `dataset` (a text in UTF-8).
        out: Receives `ranges.safetensors`, `norms.json` and `calibration.json`.

    Raises:
        Unsupported: The text is empty, too short or not UTF-8.
        ModelFault: The model or its tokenizer cannot be read.
    """
    samples = _samples(params, inputs)
    try:
        model = AutoModelForCausalLM.from_pretrained(inputs["model"], dtype=torch.float32).eval()
    except Exception as error:
        what = "the model cannot be loaded for calibration"
        raise ModelFault(what, str(error), "fetch the model again") from error
    with stage(f"{len(samples)} samples of {len(samples[0])} tokens"):
        ranges = observe(model, samples)
    write_ranges(out, ranges)
    told = {**params, "layers": len(ranges.inputs), "norms": len(ranges.norms)}
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    (out / "calibration.json").write_text(text, encoding="utf-8")
    say(f"{len(ranges.inputs)} layers, {len(ranges.norms)} norms that can take their smoothing")


def _samples(params: Mapping[str, JSONValue], inputs: Mapping[str, Path]) -> list[torch.Tensor]:
    """Windows of the text that do not overlap, chosen by the seed, in the text's order."""
    number, length, seed = (_whole(params, name) for name in ("num_samples", "max_seq_len", "seed"))
    try:
        text = inputs["dataset"].read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _refused("it is not UTF-8", str(error)) from error
    if not text.strip():
        raise _refused("it is empty", "")
    try:
        tokenizer = Tokenizer.from_file(str(inputs["model"] / "tokenizer.json"))
    except Exception as error:
        what = "tokenizer.json cannot be read"
        raise ModelFault(what, str(error), "fetch the model again") from error
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    windows = [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
    if len(windows) < number:
        why = f"it has {len(ids)} tokens, {number} samples of {length} need {number * length}"
        raise _refused("it is too short", why)
    chosen = sorted(random.Random(seed).sample(range(len(windows)), number))  # noqa: S311 - a choice that repeats, not a secret
    return [torch.tensor(windows[index]) for index in chosen]


def _whole(params: Mapping[str, JSONValue], name: str) -> int:
    value = params[name]
    assert isinstance(value, int)  # noqa: S101 - the recipe's schema
    return value


def _refused(what: str, why: str) -> Unsupported:
    fix = "name another text, or lower num_samples and max_seq_len"
    return Unsupported(f"the calibration text cannot be used: {what}", why, fix)
