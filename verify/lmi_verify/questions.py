"""The tasks step: every end of every question as a prompt of its own, answered by the reference.

It writes the files of the probe contract, so a build answers tasks through the probe that it has
for prompts; `tasks.json` says which prompts are whose, and where the ends begin.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmi_verify.asking import Answer, Asked, continued, write_answered
from lmi_verify.eager import Eager
from lmi_verify.errors import LimitsTooSmall
from lmi_verify.huggingface import load
from lmi_verify.jsonread import JSONValue, Reader
from lmi_verify.prompts import Prompt, PromptSet, file_digest
from lmi_verify.tasks import Question, built_in, digest_of, load_questions, spread

_TOLD_EVERY = 50


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes tasks.json, prompts.json, prompts.safetensors, outputs.json, outputs.safetensors.

    Args:
        params: `tasks` (each with `name`, `num_samples` or null, `max_drop`), `max_input_len`,
            `max_seq_len`, `trust_remote_code`.
        inputs: `model`, a Hugging Face directory.
        out: Where the files go.

    Raises:
        TaskUnavailable: A task is not built in, and the harness does not have it or is not here.
        LimitsTooSmall: No question fits.
        ModelUnreadable: The model cannot be loaded.
        Malformed: A parameter is missing or of another type.
    """
    given = Reader(dict(params), "params")
    longest = min(given.get("max_input_len").integer(), given.get("max_seq_len").integer() - 1)
    eager = Eager(load(inputs["model"], trust_remote_code=given.get("trust_remote_code").flag()))
    prompts: list[Prompt] = []
    ids: list[list[int]] = []
    listed: list[JSONValue] = []
    for task in given.get("tasks").items():
        name, count = task.get("name").text(), task.optional("num_samples")
        questions, source = find(name, None if count is None else count.integer())
        told: list[JSONValue] = []
        for question in questions:
            starts: list[JSONValue] = []
            for index, choice in enumerate(question.choices):
                tokens, start = encoded(eager, question.context, choice, longest)
                starts.append(start)
                ids.append(tokens)
                text = question.context + choice
                id_ = f"{name}/{question.id}/{index}"
                prompts.append(Prompt(id=id_, area="task", fit="whole", text=text, corpus=True))
            told.append({**question.to_json(), "starts": starts})
        listed.append({
            "name": name, "source": source, "max_drop": task.get("max_drop").number(),
            "questions": told,
        })  # fmt: skip
    text = json.dumps({"format": 1, "tasks": listed}, indent=1, ensure_ascii=False)
    (out / "tasks.json").write_text(f"{text}\n", encoding="utf-8")
    _answer(eager, prompts, ids, out)


def find(name: str, most: int | None) -> tuple[tuple[Question, ...], str]:
    """The questions of a task, and where they are from.

    Raises:
        TaskUnavailable: As `run`.
    """
    if name in built_in():
        return spread(load_questions(name), most), f"built in, {digest_of(name)}"
    from lmi_verify import harness  # noqa: PLC0415 - a library that few have

    return harness.read(name, most), harness.source()


def encoded(eager: Eager, context: str, choice: str, longest: int) -> tuple[list[int], int]:
    """The tokens of a context with one end, and where the end's begin.

    Blanks between them belong to the end, and what is too long loses its beginning: both as in
    lm-eval (`lm_eval/api/model.py`, `_encode_pair`).

    Raises:
        LimitsTooSmall: The end alone is longer than the longest prompt.
    """
    bare = context.rstrip()
    whole, before = eager.encode(context + choice), len(eager.encode(bare))
    cut = max(len(whole) - longest, 0)
    if before - cut < 1 or before >= len(whole):
        raise LimitsTooSmall(longest, longest + 1)
    return whole[cut:], before - cut


def _answer(
    eager: Eager, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], out: Path
) -> None:
    asked: list[Asked] = []
    answers: list[Answer] = []
    for prompt, tokens in zip(prompts, ids, strict=True):
        one, answer = continued(eager, prompt, tokens, tokens=1, rows=(len(tokens) - 1,))
        asked.append(one)
        answers.append(answer)
        if len(asked) % _TOLD_EVERY == 0:
            print(f"tasks: {len(asked)}/{len(prompts)} ends", flush=True)  # noqa: T201 - progress for the log
    made = PromptSet(
        version="tasks", digest=file_digest(out / "tasks.json"), prompts=tuple(prompts)
    )
    write_answered(out, made, asked, answers, eos_token_ids=eager.eos_token_ids)
