"""Prompts as tokens, and answers to them, as the files that every probe reads and writes.

The files are described in `verify/README.md`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch  # noqa: TID253 - nobody imports this module before it is named
from safetensors.torch import save_file  # noqa: TID253 - as above

from lmi_verify.eager import Eager, likelihoods
from lmi_verify.prompts import Prompt, PromptSet, file_digest, token_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt as a model is asked it: its tokens, those forced after it, and what is wanted.

    Attributes:
        prompt: The prompt.
        text_ids: All tokens of its text.
        input_ids: The tokens that are asked, n.
        forced_ids: The continuation that is forced, m.
        rows: The positions whose logits are wanted, r.
    """

    prompt: Prompt
    text_ids: list[int]
    input_ids: list[int]
    forced_ids: list[int]
    rows: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Answer:
    """What one prompt was answered with; see the README's file formats for shapes."""

    prompt_logits: torch.Tensor
    forced_logits: torch.Tensor
    generated_ids: list[int]
    log_probs: list[float]
    pieces: list[str]
    finish_reason: str
    token_log_probs: torch.Tensor | None
    text_ids: list[int]
    batch_logits: torch.Tensor | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def answer_batch(
    eager: Eager, asked: Sequence[Asked], answers: Sequence[Answer], tokens: int
) -> None:
    """Asks all of `asked` together, and adds `batch_logits` to their answers."""
    rows = eager.batch(
        [each.input_ids for each in asked], [each.forced_ids for each in asked], tokens
    )
    for answer, found in zip(answers, rows, strict=True):
        answer.batch_logits = found[: min(tokens, len(answer.forced_logits))].contiguous()


def continued(
    eager: Eager, prompt: Prompt, ids: Sequence[int], *, tokens: int, rows: tuple[int, ...]
) -> tuple[Asked, Answer]:
    """A prompt's greedy continuation, not stopped at an end token: asked and answered at once."""
    logits, state = eager.prefill(ids)
    steps = [logits[-1]]
    forced = [int(steps[0].argmax())]
    while len(forced) < tokens:
        steps.append(eager.decode(state, forced[-1]))
        forced.append(int(steps[-1].argmax()))
    text_ids = eager.encode(prompt.text)
    asked = Asked(
        prompt=prompt, text_ids=text_ids, input_ids=list(ids), forced_ids=forced, rows=rows
    )
    return asked, _answer(eager, asked, logits, torch.stack(steps), forced)


def _answer(
    eager: Eager,
    asked: Asked,
    logits: torch.Tensor,
    steps: torch.Tensor,
    own: Sequence[int],
) -> Answer:
    """Puts an answer together; the greedy continuation is cut at its first end token."""
    ends = [index for index, each in enumerate(own) if each in eager.eos_token_ids]
    generated = list(own[: ends[0] + 1] if ends else own)
    return Answer(
        prompt_logits=logits[list(asked.rows)].contiguous(),
        forced_logits=steps.contiguous(),
        generated_ids=generated,
        log_probs=[eager.log_prob(steps[i], token) for i, token in enumerate(generated)],
        pieces=[eager.piece(token) for token in generated],
        finish_reason="eos_token" if ends else "length",
        token_log_probs=likelihoods(logits, asked.input_ids) if asked.prompt.corpus else None,
        text_ids=eager.encode(asked.prompt.text),
    )


def drawn(eager: Eager, prompts: PromptSet, answers: Sequence[Answer]) -> torch.Tensor | None:
    """int64 [draws]: the tokens drawn after the sampling prompt."""
    if prompts.sampling is None:
        return None
    row = answers[prompts.index(prompts.sampling.prompt)].forced_logits[0]
    seeds = range(prompts.sampling.draws)
    return torch.tensor([eager.draw(row, prompts.sampling.temperature, seed) for seed in seeds])


def write_answered(
    out: Path,
    prompts: PromptSet,
    asked: Sequence[Asked],
    answers: Sequence[Answer],
    *,
    eos_token_ids: Sequence[int],
    draws: torch.Tensor | None = None,
) -> None:
    """Writes what was asked and what was answered: all four files.

    Args:
        out: An empty folder.
        prompts: The set that `asked` is of.
        asked: In the order of the files' indices.
        answers: One for each.
        eos_token_ids: What ends a continuation.
        draws: int64 [draws], the tokens drawn; None where nothing is.
    """
    digest = _write_prompts(
        out,
        prompts,
        asked,
        vocab_size=answers[0].forced_logits.shape[-1],
        eos_token_ids=eos_token_ids,
    )
    names = [each.prompt.id for each in asked]
    write_outputs(out, digest, names, answers, eos_token_ids=eos_token_ids, draws=draws)


def _write_prompts(
    out: Path,
    prompts: PromptSet,
    asked: Sequence[Asked],
    *,
    vocab_size: int,
    eos_token_ids: Sequence[int],
) -> str:
    """Writes prompts.json and prompts.safetensors; returns their digest."""
    digest = token_digest(
        prompts.digest,
        vocab_size=vocab_size,
        eos_token_ids=eos_token_ids,
        ids=[
            (each.prompt.id, (each.text_ids, each.input_ids, each.forced_ids, each.rows))
            for each in asked
        ],
    )
    tensors: dict[str, torch.Tensor] = {}
    for index, each in enumerate(asked):
        tensors[f"{index:03d}.text_ids"] = torch.tensor(each.text_ids)
        tensors[f"{index:03d}.input_ids"] = torch.tensor(each.input_ids)
        tensors[f"{index:03d}.forced_ids"] = torch.tensor(each.forced_ids)
        tensors[f"{index:03d}.rows"] = torch.tensor(each.rows)
    save_file(tensors, out / "prompts.safetensors")
    header: dict[str, object] = {
        "format": 2,
        "version": prompts.version,
        "digest": digest,
        "source_digest": prompts.digest,
        "vocab_size": vocab_size,
        "eos_token_ids": list(eos_token_ids),
        "forced_tokens": max(len(each.forced_ids) for each in asked),
    }
    _write(out / "prompts.json", {**header, **_wanted(prompts, asked)})
    return digest


def _wanted(prompts: PromptSet, asked: Sequence[Asked]) -> dict[str, object]:
    """What is asked together, drawn and asked, by index."""
    sampling = prompts.sampling
    return {
        "batch": {
            "prompts": [prompts.index(each) for each in prompts.batch],
            "tokens": prompts.batch_tokens,
        },
        "sampling": sampling
        and {
            "prompt": prompts.index(sampling.prompt),
            "temperature": sampling.temperature,
            "draws": sampling.draws,
        },
        "prompts": [
            {
                "id": each.prompt.id,
                "text": each.prompt.text,
                "area": each.prompt.area,
                "corpus": each.prompt.corpus,
                "repeats": each.prompt.repeats and prompts.index(each.prompt.repeats),
            }
            for each in asked
        ],
    }


def write_outputs(
    out: Path,
    digest: str,
    names: Sequence[str],
    answers: Sequence[Answer],
    *,
    eos_token_ids: Sequence[int],
    draws: torch.Tensor | None,
) -> None:
    """Writes outputs.safetensors, then outputs.json.

    Args:
        out: The folder.
        digest: Of the prompts that were asked.
        names: Of the prompts.
        answers: One for each name.
        eos_token_ids: What the side says ends a continuation.
        draws: int64 [draws], the tokens drawn; None where nothing was.
    """
    tensors: dict[str, torch.Tensor] = {} if draws is None else {"sampling.ids": draws}
    for index, each in enumerate(answers):
        name = f"{index:03d}"
        tensors[f"{name}.prompt_logits"] = each.prompt_logits
        tensors[f"{name}.forced_logits"] = each.forced_logits
        tensors[f"{name}.generated_ids"] = torch.tensor(each.generated_ids)
        tensors[f"{name}.generated_log_probs"] = torch.tensor(each.log_probs)
        tensors[f"{name}.text_ids"] = torch.tensor(each.text_ids, dtype=torch.int64)
        if each.token_log_probs is not None:
            tensors[f"{name}.token_log_probs"] = each.token_log_probs
        if each.batch_logits is not None:
            tensors[f"{name}.batch_logits"] = each.batch_logits
    save_file(tensors, out / "outputs.safetensors")
    _write(
        out / "outputs.json",
        {
            "format": 2,
            "prompts_digest": digest,
            "vocab_size": answers[0].forced_logits.shape[-1],
            "eos_token_ids": list(eos_token_ids),
            "tensors": file_digest(out / "outputs.safetensors"),
            "prompts": [
                {
                    "id": name,
                    "finish_reason": each.finish_reason,
                    "pieces": each.pieces,
                    "seconds": each.seconds,
                }
                for name, each in zip(names, answers, strict=True)
            ],
        },
    )


def write_scores(
    out: Path,
    digest: str,
    names: Sequence[str],
    vocab_size: int,
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Writes the files of a side that scores and generates nothing.

    Args:
        out: The folder.
        digest: Of the prompts that were asked.
        names: Of the prompts.
        vocab_size: Width of the logits.
        tensors: By their names in the file, such as `000.prompt_logits` [r, vocab].
    """
    save_file(dict(tensors), out / "outputs.safetensors")
    header = {
        "format": 2,
        "prompts_digest": digest,
        "vocab_size": vocab_size,
        "tensors": file_digest(out / "outputs.safetensors"),
    }
    _write(out / "outputs.json", {**header, "prompts": [{"id": name} for name in names]})


def _write(path: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
