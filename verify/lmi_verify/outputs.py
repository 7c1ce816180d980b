"""Reads the reference's and the candidate's output files and refuses what cannot be compared.

The files are described in `verify/README.md`. Logits stay on disk until one prompt is asked for.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np  # noqa: TID253 - nobody imports this module before it is named
import numpy.typing as npt  # noqa: TID253 - as above
from safetensors import SafetensorError, safe_open  # noqa: TID253 - as above

from lmi_verify.errors import Malformed, OutputsUnusable
from lmi_verify.jsonread import Reader
from lmi_verify.prompts import token_digest

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """One prompt as both sides were given it: `input_ids` [n], `forced_ids` [m]."""

    id: str
    input_ids: tuple[int, ...]
    forced_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What the reference asked of a candidate."""

    version: str
    digest: str
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    prompts: tuple[PromptTokens, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One free-running continuation: `ids` [g], and why it ended."""

    ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """One side's outputs: continuations in memory, logits in `path`, all of the right shape."""

    path: Path
    generated: tuple[Generated, ...]

    def logits(self, index: int) -> tuple[FloatArray, FloatArray]:
        """One prompt's `prompt_logits` [n, vocab] and `forced_logits` [m, vocab]."""
        with safe_open(self.path, framework="numpy") as file:
            prompt: FloatArray = file.get_tensor(f"{index:03d}.prompt_logits")
            forced: FloatArray = file.get_tensor(f"{index:03d}.forced_logits")
        return prompt, forced


def read_prompts(directory: Path) -> Prompts:
    """The reference's prompts.json and prompts.safetensors.

    Raises:
        OutputsUnusable: They are missing, malformed, or do not belong together.
    """
    content = _read_json(directory / "prompts.json")
    tensors = _Tensors(directory / "prompts.safetensors")
    try:
        vocab = content.get("vocab_size").integer()
        prompts = Prompts(
            version=content.get("version").text(),
            digest=content.get("digest").text(),
            vocab_size=vocab,
            eos_token_ids=tuple(item.integer() for item in content.get("eos_token_ids").items()),
            prompts=tuple(
                PromptTokens(
                    id=item.get("id").text(),
                    input_ids=tensors.ids(f"{index:03d}.input_ids", vocab=vocab),
                    forced_ids=tensors.ids(f"{index:03d}.forced_ids", vocab=vocab),
                )
                for index, item in enumerate(content.get("prompts").items())
            ),
        )
        source = content.get("source_digest").text()
    except Malformed as error:
        raise OutputsUnusable((f"prompts.json: {error}",)) from error
    tensors.done()
    digest = token_digest(
        source,
        vocab_size=prompts.vocab_size,
        eos_token_ids=prompts.eos_token_ids,
        ids=[(each.id, each.input_ids, each.forced_ids) for each in prompts.prompts],
    )
    if digest != prompts.digest:
        raise OutputsUnusable(("prompts.safetensors: not the tokens that prompts.json names",))
    return prompts


def read_outputs(directory: Path, prompts: Prompts, *, side: str) -> Outputs:
    """One side's outputs.json and outputs.safetensors, checked against the prompts.

    Args:
        directory: Of the step that made them.
        prompts: What was asked.
        side: `reference` or `candidate`, for messages.

    Raises:
        OutputsUnusable: Other prompts, another vocabulary, missing or truncated tensors, other
            shapes or types; every problem at once.
    """
    owner = f"{side}'s "
    content = _read_json(directory / "outputs.json", owner)
    try:
        problems = _header_problems(content, prompts)
        reasons = [item.get("finish_reason").text() for item in content.get("prompts").items()]
    except Malformed as error:
        raise OutputsUnusable((f"{owner}outputs.json: {error}",)) from error
    if problems:
        raise OutputsUnusable(tuple(f"{owner}outputs.json: {each}" for each in problems))
    tensors = _Tensors(directory / "outputs.safetensors", owner)
    vocab = prompts.vocab_size
    generated = []
    for index, (prompt, reason) in enumerate(zip(prompts.prompts, reasons, strict=True)):
        name, forced = f"{index:03d}", len(prompt.forced_ids)
        tensors.expect(f"{name}.prompt_logits", [len(prompt.input_ids), vocab])
        tensors.expect(f"{name}.forced_logits", [forced, vocab])
        ids = tensors.ids(f"{name}.generated_ids", vocab=vocab, longest=forced)
        generated.append(Generated(ids=ids, finish_reason=reason))
    tensors.done()
    return Outputs(path=tensors.path, generated=tuple(generated))


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


def _read_json(path: Path, owner: str = "") -> Reader:
    name = f"{owner}{path.name}"
    if not path.is_file():
        raise OutputsUnusable((f"{name} is missing",))
    try:
        content = Reader(json.loads(path.read_bytes()), path.name)
        version = content.get("format")
    except (ValueError, Malformed) as error:
        raise OutputsUnusable((f"{name}: {error}",)) from error
    if version.value != 1:
        raise OutputsUnusable((f"{name}: format {version.value}, only 1 is known",))
    return content


class _Tensors:
    """A safetensors file's index; collects every problem of the tensors asked for.

    Raises:
        OutputsUnusable: There is no such file, or it is truncated.
    """

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path = path
        self._name = f"{owner}{path.name}"
        self._problems: list[str] = []
        if not path.is_file():
            raise OutputsUnusable((f"{self._name} is missing",))
        try:
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                self._index = {
                    name: (each.get_dtype(), list(each.get_shape()))
                    for name, each in slices.items()
                }
        except SafetensorError as error:
            raise OutputsUnusable((f"{self._name}: {error}",)) from error

    def expect(self, name: str, shape: list[int]) -> None:
        """A float32 tensor of that shape."""
        found = self._index.get(name)
        if found is None:
            self._problem(f"{name} is missing")
        elif found != ("F32", shape):
            self._problem(f"{name} is {found[0]} {found[1]}, not F32 {shape}")

    def ids(self, name: str, *, vocab: int, longest: int | None = None) -> tuple[int, ...]:
        """Between one and `longest` ids of the vocabulary, an int64 tensor; empty if not."""
        dtype, shape = self._index.get(name, ("nothing", []))
        if dtype != "I64" or len(shape) != 1:
            self._problem(f"{name} is {dtype} {shape}, not I64 [n]")
            return ()
        with safe_open(self.path, framework="numpy") as file:
            array: IntArray = file.get_tensor(name)
        ids = tuple(int(each) for each in array)
        if not 1 <= len(ids) <= (longest or len(ids)):
            self._problem(f"{name} has {len(ids)} ids, not 1 to {longest or 'more'}")
        elif not all(0 <= each < vocab for each in ids):
            self._problem(f"{name} has ids outside 0 to {vocab - 1}")
        return ids

    def done(self) -> None:
        """Raises what was found."""
        if self._problems:
            raise OutputsUnusable(tuple(self._problems))

    def _problem(self, text: str) -> None:
        self._problems.append(f"{self._name}: {text}")
