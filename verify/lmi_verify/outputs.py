"""Reads the reference's and the candidate's output files and refuses what cannot be compared.

The files are described in `verify/README.md`. Logits stay on disk until one prompt is asked for.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
from safetensors import safe_open  # noqa: TID253 - as above

from lmi_verify.errors import Malformed, OutputsUnusable
from lmi_verify.jsonread import Reader
from lmi_verify.prompts import file_digest, token_digest
from lmi_verify.tensorfiles import FloatArray, Tensors, read_json

PARTS: Mapping[str, str] = {
    "tokenizer": "NNN.text_ids",
    "log_probs": "NNN.generated_log_probs",
    "likelihoods": "NNN.token_log_probs",
    "batch": "NNN.batch_logits",
    "sampling": "sampling.ids",
    "settings": "eos_token_ids (outputs.json)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """One prompt as both sides were given it.

    Attributes:
        id: Its name.
        input_ids: [n].
        forced_ids: [m].
        rows: [r], the positions of the prompt whose logits are compared.
        text_ids: The reference's tokens of the whole text; None where nobody wrote them down.
        corpus: Whether the likelihood of its text is measured.
        repeats: The index of the prompt that it asks again.
    """

    id: str
    input_ids: tuple[int, ...]
    forced_ids: tuple[int, ...]
    rows: tuple[int, ...]
    text_ids: tuple[int, ...] | None = None
    corpus: bool = False
    repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What was to be drawn: the first token after a prompt, by its index."""

    prompt: int
    temperature: float
    draws: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What the reference asked of a candidate.

    Attributes:
        version: Of the prompt set.
        digest: Of the tokens.
        vocab_size: V.
        eos_token_ids: What ends a continuation.
        prompts: In the order in which they are asked.
        batch: Indices of those that are asked together.
        batch_tokens: Rows of each in the batch.
        sampling: What is drawn.
    """

    version: str
    digest: str
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    prompts: tuple[PromptTokens, ...]
    batch: tuple[int, ...] = ()
    batch_tokens: int = 0
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One free-running continuation.

    Attributes:
        ids: [g].
        finish_reason: Why it ended.
        log_probs: [g], as they were reported; None where they were not.
        pieces: The text of each token; None where nobody wrote it down.
    """

    ids: tuple[int, ...]
    finish_reason: str
    log_probs: tuple[float, ...] | None = None
    pieces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """One prompt's arrays of one side, as far as that side wrote them.

    Attributes:
        prompt_logits: [r, V].
        forced_logits: [m, V].
        likelihoods: [n - 1], of a corpus's text: each token's log-probability after the first.
        batch_logits: [b, V], the first forced rows in company.
    """

    prompt_logits: FloatArray
    forced_logits: FloatArray
    likelihoods: FloatArray | None = None
    batch_logits: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """One side's outputs: continuations in memory, arrays in `path`, all of the right shape.

    Attributes:
        path: The tensors.
        prompts: What was asked.
        generated: A continuation for each prompt; empty where the side makes none.
        text_ids: For each prompt the side's own tokens of its text, where it wrote them.
        draws: The tokens that were drawn.
        eos_token_ids: What the side says ends a text.
        shown: Names of the parts that it wrote beside logits and continuations, of `PARTS`.
    """

    path: Path
    prompts: Prompts
    generated: tuple[Generated, ...]
    text_ids: tuple[tuple[int, ...] | None, ...] = ()
    draws: tuple[int, ...] | None = None
    eos_token_ids: tuple[int, ...] | None = None
    shown: frozenset[str] = frozenset()

    def arrays(self, index: int) -> Arrays:
        """One prompt's arrays."""
        prompt, name = self.prompts.prompts[index], f"{index:03d}"
        with safe_open(self.path, framework="numpy") as file:
            names = set(file.keys())
            logits: FloatArray = file.get_tensor(f"{name}.prompt_logits")
            forced: FloatArray = file.get_tensor(f"{name}.forced_logits")
            read = {
                part: file.get_tensor(f"{name}.{part}")
                for part in ("token_log_probs", "batch_logits")
                if f"{name}.{part}" in names
            }
        likelihoods = read.get("token_log_probs")
        if len(logits) == len(prompt.input_ids) != len(prompt.rows):  # it wrote every position
            if likelihoods is None and prompt.corpus:
                likelihoods = _likelihoods(logits, prompt.input_ids)
            logits = logits[list(prompt.rows)]
        return Arrays(
            prompt_logits=logits,
            forced_logits=forced,
            likelihoods=likelihoods,
            batch_logits=read.get("batch_logits"),
        )


def _likelihoods(logits: FloatArray, ids: tuple[int, ...]) -> FloatArray:
    """Of the logits of every position; they come from a probe that knows no `token_log_probs`."""
    found = np.empty(len(ids) - 1, dtype=np.float32)
    for index, token in enumerate(ids[1:]):
        row = logits[index].astype(np.float64)
        top = row.max()
        found[index] = row[token] - top - np.log(np.exp(row - top).sum())
    return found


def read_prompts(directory: Path) -> Prompts:
    """The reference's prompts.json and prompts.safetensors.

    Raises:
        OutputsUnusable: They are missing, malformed, or do not belong together.
    """
    content = read_json(directory / "prompts.json")
    tensors = Tensors(directory / "prompts.safetensors")
    try:
        prompts = _prompts(content, tensors)
        source = content.get("source_digest").text()
    except Malformed as error:
        raise OutputsUnusable((f"prompts.json: {error}",)) from error
    tensors.done()
    digest = token_digest(
        source,
        vocab_size=prompts.vocab_size,
        eos_token_ids=prompts.eos_token_ids,
        ids=[
            (each.id, (each.text_ids or (), each.input_ids, each.forced_ids, each.rows))
            for each in prompts.prompts
        ],
    )
    if digest != prompts.digest:
        raise OutputsUnusable(("prompts.safetensors: not the tokens that prompts.json names",))
    return prompts


def _prompts(content: Reader, tensors: Tensors) -> Prompts:
    vocab = content.get("vocab_size").integer()
    batch, sampling = content.get("batch"), content.optional("sampling")
    return Prompts(
        version=content.get("version").text(),
        digest=content.get("digest").text(),
        vocab_size=vocab,
        eos_token_ids=_integers(content.get("eos_token_ids")),
        prompts=tuple(
            _prompt(item, f"{index:03d}", tensors, vocab)
            for index, item in enumerate(content.get("prompts").items())
        ),
        batch=_integers(batch.get("prompts")),
        batch_tokens=batch.get("tokens").integer(),
        sampling=None
        if sampling is None
        else Sampling(
            prompt=sampling.get("prompt").integer(),
            temperature=sampling.get("temperature").number(),
            draws=sampling.get("draws").integer(),
        ),
    )


def _prompt(item: Reader, name: str, tensors: Tensors, vocab: int) -> PromptTokens:
    repeats = item.optional("repeats")
    ids = tensors.ids(f"{name}.input_ids", vocab=vocab)
    return PromptTokens(
        id=item.get("id").text(),
        input_ids=ids,
        forced_ids=tensors.ids(f"{name}.forced_ids", vocab=vocab),
        rows=tensors.ids(f"{name}.rows", vocab=max(len(ids), 1)),
        text_ids=tensors.ids(f"{name}.text_ids", vocab=vocab),
        corpus=item.get("corpus").flag(),
        repeats=None if repeats is None else repeats.integer(),
    )


def _integers(item: Reader) -> tuple[int, ...]:
    return tuple(each.integer() for each in item.items())


def read_outputs(
    directory: Path, prompts: Prompts, *, side: str, needed: Collection[str] = ()
) -> Outputs:
    """One side's outputs.json and outputs.safetensors, checked against the prompts.

    Args:
        directory: Of the step that made them.
        prompts: What was asked.
        side: `reference`, `baseline` or `candidate`, for messages.
        needed: The parts, of `PARTS`, that this side writes when it is whole.

    Raises:
        OutputsUnusable: Other prompts, another vocabulary, missing or truncated tensors, other
            shapes or types; every problem at once.
    """
    owner = f"{side}'s "
    content = read_json(directory / "outputs.json", owner)
    try:
        problems = _header_problems(content, prompts)
        told = [_told(item) for item in content.get("prompts").items()]
        eos = content.entries().get("eos_token_ids")
        ends = None if eos is None else _integers(eos)
    except Malformed as error:
        raise OutputsUnusable((f"{owner}outputs.json: {error}",)) from error
    if problems:
        raise OutputsUnusable(tuple(f"{owner}outputs.json: {each}" for each in problems))
    tensors = Tensors(directory / "outputs.safetensors", owner)
    digest = content.entries().get("tensors")  # a reference names its tensors: it is kept for long
    if digest is not None and digest.value != file_digest(tensors.path):
        raise OutputsUnusable((f"{owner}outputs.safetensors is not what outputs.json names",))
    shown = _shown(tensors, prompts, ends)
    for part in sorted(set(needed) - shown):
        tensors.problem(f"{PARTS[part]} is missing")
    generated = []
    for index, (reason, pieces) in enumerate(told):
        _expect(tensors, index, prompts, shown)
        if side != "baseline":
            generated.append(_generated(tensors, index, prompts, reason, pieces))
    texts = [f"{index:03d}.text_ids" for index in range(len(prompts.prompts))]
    found = Outputs(
        path=tensors.path,
        prompts=prompts,
        generated=tuple(generated),
        text_ids=tuple(tensors.ids(name) if tensors.has(name) else None for name in texts),
        draws=tensors.ids("sampling.ids") if "sampling" in shown else None,
        eos_token_ids=ends,
        shown=shown,
    )
    tensors.done()
    return found


def _told(item: Reader) -> tuple[str, tuple[str, ...] | None]:
    pieces = item.entries().get("pieces")
    reason = item.entries().get("finish_reason")
    return (
        "" if reason is None else reason.text(),
        None if pieces is None else tuple(each.text() for each in pieces.items()),
    )


def _shown(tensors: Tensors, prompts: Prompts, ends: tuple[int, ...] | None) -> frozenset[str]:
    """Which of `PARTS` a side wrote, by its first prompt that has them."""
    wrote = {
        "tokenizer": tensors.has("000.text_ids"),
        "log_probs": tensors.has("000.generated_log_probs"),
        "likelihoods": any(
            prompt.corpus and tensors.has(f"{index:03d}.token_log_probs")
            for index, prompt in enumerate(prompts.prompts)
        ),
        "batch": bool(prompts.batch) and tensors.has(f"{prompts.batch[0]:03d}.batch_logits"),
        "sampling": tensors.has("sampling.ids"),
        "settings": ends is not None,
    }
    return frozenset(name for name, there in wrote.items() if there)


def _expect(tensors: Tensors, index: int, prompts: Prompts, shown: Collection[str]) -> None:
    """The tensors of one prompt that hold floats."""
    prompt, name, vocab = prompts.prompts[index], f"{index:03d}", prompts.vocab_size
    rows, every, forced = len(prompt.rows), len(prompt.input_ids), len(prompt.forced_ids)
    tensors.expect(f"{name}.prompt_logits", [rows, vocab], [every, vocab])
    tensors.expect(f"{name}.forced_logits", [forced, vocab])
    if "likelihoods" in shown and prompt.corpus:
        tensors.expect(f"{name}.token_log_probs", [every - 1])
    if "batch" in shown and index in prompts.batch:
        tensors.expect(f"{name}.batch_logits", [min(prompts.batch_tokens, forced), vocab])


def _generated(
    tensors: Tensors,
    index: int,
    prompts: Prompts,
    reason: str,
    pieces: tuple[str, ...] | None,
) -> Generated:
    name, forced = f"{index:03d}", len(prompts.prompts[index].forced_ids)
    ids = tensors.ids(f"{name}.generated_ids", vocab=prompts.vocab_size, longest=forced)
    told = f"{name}.generated_log_probs"
    log_probs = tensors.floats(told, len(ids)) if tensors.has(told) else None
    if pieces is not None and len(pieces) != len(ids):
        pieces = None
    return Generated(ids=ids, finish_reason=reason, log_probs=log_probs, pieces=pieces)


def _header_problems(content: Reader, prompts: Prompts) -> list[str]:
    digest = content.get("prompts_digest").text()
    vocab = content.get("vocab_size").integer()
    names = [item.get("id").text() for item in content.get("prompts").items()]
    asked = [prompt.id for prompt in prompts.prompts]
    problems = []
    if digest != prompts.digest:
        problems.append(f"made from other prompts ({digest}, not {prompts.digest})")
    if vocab != prompts.vocab_size:
        problems.append(f"vocabulary of {vocab}, not {prompts.vocab_size}")
    if names != asked:
        problems.append(f"prompts {', '.join(names)}, not {', '.join(asked)}")
    return problems
