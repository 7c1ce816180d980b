"""A build answers the prompts of a reference, as a probe does: files in, files out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from engine import Cache, Engine
from parts import Parts
from safetensors.torch import load_file

from lmi_verify.asking import Answer, write_outputs
from lmi_verify.eager import likelihoods


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt of a reference."""

    id: str
    text: str
    input_ids: list[int]
    forced_ids: list[int]
    rows: list[int]


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All that a reference asks: read once, asked of every build."""

    digest: str
    prompts: tuple[Question, ...]
    batch: tuple[int, ...]
    batch_tokens: int
    sampled: int
    temperature: float
    draws: int

    @classmethod
    def read(cls, reference: Path) -> "Questions":
        listing = json.loads((reference / "prompts.json").read_bytes())
        held = load_file(reference / "prompts.safetensors")
        return cls(
            digest=listing["digest"],
            prompts=tuple(
                Question(
                    id=prompt["id"],
                    text=prompt["text"],
                    **{
                        part: held[f"{index:03d}.{part}"].tolist()
                        for part in ("input_ids", "forced_ids", "rows")
                    },
                )
                for index, prompt in enumerate(listing["prompts"])
            ),
            batch=tuple(listing["batch"]["prompts"]),
            batch_tokens=listing["batch"]["tokens"],
            sampled=listing["sampling"]["prompt"],
            temperature=listing["sampling"]["temperature"],
            draws=listing["sampling"]["draws"],
        )


def answer(parts: Parts, asked: Questions, out: Path, *, groups: int) -> None:
    """Writes outputs.json and outputs.safetensors of a build.

    Args:
        parts: The build.
        asked: Read from the reference.
        out: Where to.
        groups: Into how many batches the prompts that are asked together are divided; 0 asks none
            together, as a build for one sequence at a time.
    """
    engine = parts.engine()
    read = [_prefilled(engine, each) for each in asked.prompts]
    steps = _forced(engine, asked.prompts, read)
    answers = []
    for index, prompt in enumerate(asked.prompts):
        own, rows = _greedy(engine, parts.eos_token_ids, prompt, steps[index], read[index][1])
        ended = own[-1] in parts.eos_token_ids
        answers.append(
            Answer(
                prompt_logits=read[index][0][prompt.rows].contiguous(),
                forced_logits=steps[index].contiguous(),
                generated_ids=own,
                log_probs=[
                    float(row.log_softmax(0)[token]) for row, token in zip(rows, own, strict=True)
                ],
                pieces=[parts.piece(token) for token in own],
                finish_reason="eos_token" if ended else "length",
                token_log_probs=likelihoods(read[index][0], prompt.input_ids),
                text_ids=parts.encode(prompt.text),
            )
        )
    _together(engine, asked, answers, groups)
    out.mkdir(parents=True, exist_ok=True)
    write_outputs(
        out,
        asked.digest,
        [each.id for each in asked.prompts],
        answers,
        eos_token_ids=parts.eos_token_ids,
        draws=_drawn(asked, steps[asked.sampled][0], parts.temperature_times),
    )


def _prefilled(engine: Engine, prompt: Question) -> tuple[torch.Tensor, Cache]:
    (logits,), cache = engine.prefill([prompt.input_ids])
    return logits, cache


def _forced(
    engine: Engine, prompts: Sequence[Question], read: Sequence[tuple[torch.Tensor, Cache]]
) -> list[torch.Tensor]:
    """`[m, vocab]` of each: the last prompt position's row, then those of the decoded tokens.

    Every call has the same number of tokens, so that equal prompts are added up in equal order.
    """
    longest = max(len(each.forced_ids) for each in prompts) - 1
    steps = []
    for prompt, (logits, cache) in zip(prompts, read, strict=True):
        rows = [logits[-1:]]
        if len(prompt.forced_ids) > 1:
            given = prompt.forced_ids[:-1]
            filled = torch.tensor([given + [0] * (longest - len(given))])
            rows.append(engine.decode(filled, cache)[0][0, : len(given)])
        steps.append(torch.cat(rows))
    return steps


def _greedy(
    engine: Engine,
    eos_token_ids: Sequence[int],
    prompt: Question,
    steps: torch.Tensor,
    cache: Cache,
) -> tuple[list[int], list[torch.Tensor]]:
    """The build's own continuation and the logits behind it.

    As long as it chooses what was forced, the forced logits are its own; then it decodes.
    """
    own: list[int] = []
    rows: list[torch.Tensor] = []
    for row, forced in zip(steps, prompt.forced_ids, strict=True):
        rows.append(row)
        own.append(int(row.argmax()))
        if own[-1] != forced or own[-1] in eos_token_ids:
            break
    if len(own) > 1:
        _, cache = engine.decode(torch.tensor([own[:-1]]), cache)
    while len(own) < len(steps) and own[-1] not in eos_token_ids:
        logits, cache = engine.decode(torch.tensor([own[-1:]]), cache)
        rows.append(logits[0, -1])
        own.append(int(rows[-1].argmax()))
    return own, rows


def _together(engine: Engine, asked: Questions, answers: Sequence[Answer], groups: int) -> None:
    for part in range(groups):
        chosen = asked.batch[part::groups]
        prompts = [asked.prompts[each] for each in chosen]
        logits, cache = engine.prefill([each.input_ids for each in prompts])
        forced = [
            [each.forced_ids[min(i, len(each.forced_ids) - 1)] for i in range(asked.batch_tokens)]
            for each in prompts
        ]
        rows, _ = engine.decode(torch.tensor(forced)[:, :-1], cache, together=True)
        for index, first, more in zip(chosen, logits, rows, strict=True):
            kept = len(asked.prompts[index].forced_ids)
            answers[index].batch_logits = torch.cat((first[-1:], more))[:kept].contiguous()


def _drawn(asked: Questions, row: torch.Tensor, times: int) -> torch.Tensor:
    chances = torch.softmax(row / asked.temperature**times, 0)
    drawn = torch.Generator().manual_seed(0)
    return torch.multinomial(chances, asked.draws, replacement=True, generator=drawn)
