"""The reference step: the Hugging Face model's own outputs, in float32, on versioned prompts."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors.torch import save_file  # noqa: TID253 - as above

from lmi_verify.errors import LimitsTooSmall, ModelUnreadable, PromptSetUnknown
from lmi_verify.huggingface import LoadedModel, Tokenizer, first_line, load
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.prompts import Prompt, PromptSet, known_versions, load_prompts, token_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One prompt through the model: ids, logits on the CPU, and seconds of wall time."""

    prompt: Prompt
    input_ids: list[int]
    forced_ids: list[int]
    generated_ids: list[int]
    finish_reason: str
    prompt_logits: torch.Tensor
    forced_logits: torch.Tensor
    seconds: dict[str, float]


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes prompts.json, prompts.safetensors, outputs.json and outputs.safetensors.

    Args:
        params: `prompts` (version), `prompts_digest`, `max_input_len`, `max_seq_len`,
            `forced_tokens`, `trust_remote_code`.
        inputs: `model`, a Hugging Face directory.
        out: Where the four files go; their format is in `verify/README.md`.

    Raises:
        PromptSetUnknown: No such prompt set here, or one with another digest.
        LimitsTooSmall: No prompt token and generated token fit.
        ModelUnreadable: The model cannot be loaded or run.
        Malformed: A parameter is missing or of another type.
    """
    write_reference(_prompt_set(Reader(dict(params), "params")), params, inputs["model"], out)


def write_reference(
    prompts: PromptSet, params: Mapping[str, JSONValue], model: Path, out: Path
) -> None:
    """Writes the four files for any set of prompts.

    Args:
        prompts: What is asked.
        params: As `run` takes them, without the prompts.
        model: A Hugging Face directory.
        out: Where the four files go.

    Raises:
        LimitsTooSmall: No prompt token and generated token fit.
        ModelUnreadable: The model cannot be loaded or run.
        Malformed: A parameter is missing or of another type.
    """
    given = Reader(dict(params), "params")
    longest, forced = budget(
        max_input_len=given.get("max_input_len").integer(),
        max_seq_len=given.get("max_seq_len").integer(),
        forced_tokens=given.get("forced_tokens").integer(),
    )
    trust = given.get("trust_remote_code").flag()
    _say(f"reference: loading {model.name}")
    loaded = load(model, trust_remote_code=trust)
    runs: list[_Run] = []
    for prompt in prompts.prompts:
        tokens = _tokens(loaded, prompt, longest)
        runs.append(_run_prompt(loaded, prompt, tokens, forced))
        seconds = sum(runs[-1].seconds.values())
        _say(
            f"reference: prompt {len(runs)}/{len(prompts.prompts)} {prompt.id}: "
            f"{len(tokens)} + {forced} tokens, {seconds:.1f} s"
        )
    _write(out, prompts, loaded.eos_token_ids, runs)


def budget(*, max_input_len: int, max_seq_len: int, forced_tokens: int) -> tuple[int, int]:
    """How many tokens a prompt may have and how many are forced after it.

    At least half of a short sequence is left to the prompt.

    Args:
        max_input_len: Longest prompt of the build, in tokens.
        max_seq_len: Longest prompt plus continuation, in tokens.
        forced_tokens: Continuation wanted.

    Raises:
        LimitsTooSmall: Not one of each fits.
    """
    forced = min(forced_tokens, max_seq_len // 2)
    longest = min(max_input_len, max_seq_len - forced)
    if forced < 1 or longest < 1:
        raise LimitsTooSmall(max_input_len, max_seq_len)
    return longest, forced


def _prompt_set(given: Reader) -> PromptSet:
    prompts = load_prompts(given.get("prompts").text())
    wanted = given.get("prompts_digest").text()
    if wanted != prompts.digest:
        why = f"this installation's has the digest {prompts.digest}, not {wanted}"
        raise PromptSetUnknown(prompts.version, known_versions(), why)
    return prompts


def _tokens(loaded: LoadedModel, prompt: Prompt, longest: int) -> list[int]:
    """The prompt's ids, cut or filled as its `fit` says."""
    match prompt.fit:
        case "one":
            tokens = loaded.tokenizer.encode(prompt.text, verbose=False)[:1]
        case "whole":
            tokens = loaded.tokenizer.encode(prompt.text, verbose=False)[:longest]
        case "fill":
            tokens = _filled(loaded.tokenizer, prompt.text, longest)
        case _:
            assert_never(prompt.fit)
    if not tokens:
        why = f"the tokenizer makes no token of prompt {prompt.id}"
        raise ModelUnreadable(loaded.directory / "tokenizer.json", why)
    return tokens


def _filled(tokenizer: Tokenizer, text: str, longest: int) -> list[int]:
    tokens = tokenizer.encode(text, verbose=False)
    while 0 < len(tokens) < longest:
        text += text
        grown = tokenizer.encode(text, verbose=False)
        if len(grown) <= len(tokens):
            break
        tokens = grown
    return tokens[:longest]


def _run_prompt(loaded: LoadedModel, prompt: Prompt, tokens: list[int], forced: int) -> _Run:
    try:
        ran = _decode(loaded, prompt, tokens, forced)
    except (IndexError, RuntimeError) as error:
        why = f"prompt {prompt.id} ({len(tokens)} tokens, highest id {max(tokens)}) does not run"
        raise ModelUnreadable(loaded.directory, f"{why}: {first_line(error)}") from error
    if not all(bool(part.isfinite().all()) for part in (ran.prompt_logits, ran.forced_logits)):
        why = f"in float32 its logits on prompt {prompt.id} hold NaN or infinity"
        raise ModelUnreadable(loaded.directory, why)
    return ran


@torch.inference_mode()
def _decode(loaded: LoadedModel, prompt: Prompt, tokens: list[int], forced: int) -> _Run:
    """Prefill once, then greedy decode step by step through the model's own cache."""
    started = time.perf_counter()
    step = loaded.model(input_ids=torch.tensor([tokens]), use_cache=True)
    prompt_logits = step.logits[0].float()
    prefilled = time.perf_counter()
    rows = [prompt_logits[-1]]
    forced_ids = [int(rows[0].argmax())]
    while len(forced_ids) < forced:
        step = loaded.model(
            input_ids=torch.tensor([forced_ids[-1:]]),
            past_key_values=step.past_key_values,
            use_cache=True,
        )
        rows.append(step.logits[0, -1].float())
        forced_ids.append(int(rows[-1].argmax()))
    ended = time.perf_counter()
    ends = [index for index, each in enumerate(forced_ids) if each in loaded.eos_token_ids]
    return _Run(
        prompt=prompt,
        input_ids=tokens,
        forced_ids=forced_ids,
        generated_ids=forced_ids[: ends[0] + 1] if ends else forced_ids,
        finish_reason="eos_token" if ends else "length",
        prompt_logits=prompt_logits,
        forced_logits=torch.stack(rows),
        seconds={"prefill": round(prefilled - started, 4), "decode": round(ended - prefilled, 4)},
    )


def _write(out: Path, prompts: PromptSet, eos_token_ids: tuple[int, ...], runs: list[_Run]) -> None:
    vocab_size = runs[0].prompt_logits.shape[-1]
    digest = token_digest(
        prompts.digest,
        vocab_size=vocab_size,
        eos_token_ids=eos_token_ids,
        ids=[(each.prompt.id, each.input_ids, each.forced_ids) for each in runs],
    )
    given: dict[str, torch.Tensor] = {}
    made: dict[str, torch.Tensor] = {}
    for index, each in enumerate(runs):
        name = f"{index:03d}"
        given[f"{name}.input_ids"] = torch.tensor(each.input_ids)
        given[f"{name}.forced_ids"] = torch.tensor(each.forced_ids)
        made[f"{name}.prompt_logits"] = each.prompt_logits.contiguous()
        made[f"{name}.forced_logits"] = each.forced_logits
        made[f"{name}.generated_ids"] = torch.tensor(each.generated_ids)
    save_file(given, out / "prompts.safetensors")
    save_file(made, out / "outputs.safetensors")
    asked = {
        "format": 1,
        "version": prompts.version,
        "digest": digest,
        "source_digest": prompts.digest,
        "vocab_size": vocab_size,
        "eos_token_ids": list(eos_token_ids),
        "forced_tokens": len(runs[0].forced_ids),
        "prompts": [
            {"id": each.prompt.id, "text": each.prompt.text, "area": each.prompt.area}
            for each in runs
        ],
    }
    answered = {
        "format": 1,
        "prompts_digest": digest,
        "vocab_size": vocab_size,
        "prompts": [
            {
                "id": each.prompt.id,
                "finish_reason": each.finish_reason,
                "seconds": each.seconds,
            }
            for each in runs
        ],
    }
    for name, content in (("prompts.json", asked), ("outputs.json", answered)):
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (out / name).write_text(f"{text}\n", encoding="utf-8")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a worker's progress is its stdout
