"""Worker function: calibration data as the one local directory that every version accepts.

A path with `lambada` and without `cnn_dailymail` in it, that holds `train.jsonl` and
`validation.jsonl` with one `{"text": ...}` a line: TensorRT-LLM 0.12's convert scripts look a
data set up by these words.
"""

import json
import pydoc_data.topics
from collections.abc import Iterator, Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.foreign import parse_json
from lmi_compile.errors import EnvironmentFault, ModelFault

BUILT_IN = "python-language-reference"
DIRECTORY = "lambada"
_CHARACTERS_PER_TOKEN = 6  # more than any tokenizer needs of English, so that windows are full


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `lambada/train.jsonl` and `lambada/validation.jsonl`.

    Args:
        params: `dataset`, `num_samples`, `max_seq_len`; for a directory `files`: sha256 by name.
        inputs: for a directory, `dataset`: where it lies.
        out: an empty directory.

    Raises:
        EnvironmentFault: the data set would have to be downloaded.
        ModelFault: the directory holds no text, or a file of it cannot be read.
    """
    dataset, samples = str(params["dataset"]), int(str(params["num_samples"]))
    if dataset == BUILT_IN:
        texts = list(_language_reference(int(str(params["max_seq_len"])), even=True))
    elif "dataset" in inputs:
        texts = list(_directory(inputs["dataset"]))
    else:
        raise EnvironmentFault(
            what=f"calibration data set {dataset} is not on this machine",
            why="nothing is downloaded while a build runs, and a hub's script data sets are refused"
            " by today's libraries",
            fix=f"name a directory with *.jsonl or *.txt files, or {BUILT_IN}",
        )
    if not texts:
        raise ModelFault(
            what=f"calibration data set {dataset} holds no text",
            fix='write *.jsonl files with {"text": "..."} a line, or *.txt files',
        )
    folder = out / DIRECTORY
    folder.mkdir()
    lines = "".join(f"{json.dumps({'text': text})}\n" for text in texts[:samples])
    for name in ("train.jsonl", "validation.jsonl"):
        (folder / name).write_text(lines, encoding="utf-8")
    print(f"{min(samples, len(texts))} samples of {dataset}", flush=True)  # noqa: T201 - progress


def evaluation_text() -> str:
    """The half of Python's language reference that never calibrates."""
    return "\n".join(_topics(even=False))


def _language_reference(tokens: int, *, even: bool) -> Iterator[str]:
    text = "\n".join(_topics(even=even))
    size = tokens * _CHARACTERS_PER_TOKEN
    for start in range(0, len(text) - size + 1, size):
        yield text[start : start + size]


def _topics(*, even: bool) -> list[str]:
    topics: dict[str, str] = pydoc_data.topics.topics
    return [topics[name] for number, name in enumerate(sorted(topics)) if (number % 2 == 0) is even]


def _directory(directory: Path) -> Iterator[str]:
    for path in sorted(directory.iterdir()):
        if path.suffix not in {".txt", ".jsonl"}:
            continue
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            what = f"the calibration file {path.name} is not UTF-8"
            raise ModelFault(what, str(error), "write it as UTF-8") from error
        if path.suffix == ".txt":
            yield content
            continue
        for number, line in enumerate(content.splitlines(), start=1):
            text = _text(line, f"{path.name}, line {number}") if line.strip() else None
            if isinstance(text, str) and text:
                yield text


def _text(line: str, where: str) -> object:
    try:
        found = parse_json(line)
    except ValueError as error:
        what = f"the calibration file {where} is not JSON"
        raise ModelFault(what, str(error), 'write {"text": "..."} a line') from error
    return found.get("text") if isinstance(found, dict) else None
