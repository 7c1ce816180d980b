"""The reference step: the Hugging Face model's own outputs, in float32, on versioned prompts."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from lmi_verify.asking import (
    Answer,
    Asked,
    answer_batch,
    continued,
    drawn,
    write_answered,
)
from lmi_verify.eager import Eager
from lmi_verify.errors import LimitsTooSmall, ModelUnreadable, PromptSetUnknown
from lmi_verify.huggingface import Tokenizer, first_line, load
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.prompts import Prompt, PromptSet, known_versions, load_prompts, rows_of


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
    eager = Eager(load(model, trust_remote_code=trust))
    asked: list[Asked] = []
    answers: list[Answer] = []
    for prompt in prompts.prompts:
        tokens = _tokens(eager, prompt, longest)
        started = time.perf_counter()
        one, answer = _run_prompt(eager, prompts, prompt, tokens, forced)
        answer.seconds["all"] = round(time.perf_counter() - started, 4)
        asked.append(one)
        answers.append(answer)
        _say(
            f"reference: prompt {len(asked)}/{len(prompts.prompts)} {prompt.id}: "
            f"{len(tokens)} + {len(one.forced_ids)} tokens, {answer.seconds['all']:.1f} s"
        )
    _together(eager, prompts, asked, answers)
    write_answered(
        out,
        prompts,
        asked,
        answers,
        eos_token_ids=eager.eos_token_ids,
        draws=drawn(eager, prompts, answers),
    )


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


def _tokens(eager: Eager, prompt: Prompt, longest: int) -> list[int]:
    """The prompt's ids, cut or filled as its `fit` says."""
    match prompt.fit:
        case "one":
            tokens = eager.encode(prompt.text)[:1]
        case "whole":
            tokens = eager.encode(prompt.text)[:longest]
        case "half":
            tokens = _filled(eager.loaded.tokenizer, prompt.text, max(longest // 2, 1))
        case "fill":
            tokens = _filled(eager.loaded.tokenizer, prompt.text, longest)
        case _:
            assert_never(prompt.fit)
    if not tokens:
        why = f"the tokenizer makes no token of prompt {prompt.id}"
        raise ModelUnreadable(eager.loaded.directory / "tokenizer.json", why)
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


def _run_prompt(
    eager: Eager, prompts: PromptSet, prompt: Prompt, tokens: list[int], most: int
) -> tuple[Asked, Answer]:
    forced = min(prompt.forced or prompts.forced or most, most)
    rows = rows_of(len(tokens), prompts.rows)
    try:
        asked, answer = continued(eager, prompt, tokens, tokens=forced, rows=rows)
    except (IndexError, RuntimeError) as error:
        why = f"prompt {prompt.id} ({len(tokens)} tokens, highest id {max(tokens)}) does not run"
        raise ModelUnreadable(eager.loaded.directory, f"{why}: {first_line(error)}") from error
    parts = (answer.prompt_logits, answer.forced_logits)
    if not all(bool(part.isfinite().all()) for part in parts):
        why = f"in float32 its logits on prompt {prompt.id} hold NaN or infinity"
        raise ModelUnreadable(eager.loaded.directory, why)
    return asked, answer


def _together(eager: Eager, prompts: PromptSet, asked: list[Asked], answers: list[Answer]) -> None:
    """Asks the batch's prompts together, where the model can."""
    if not prompts.batch or not eager.batches:
        return
    chosen = [prompts.index(name) for name in prompts.batch]
    answer_batch(
        eager,
        [asked[each] for each in chosen],
        [answers[each] for each in chosen],
        prompts.batch_tokens,
    )
    _say(f"reference: {len(chosen)} prompts together")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a worker's progress is its stdout
