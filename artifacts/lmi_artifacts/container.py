"""What a finished tree must look like for DJL Serving's Python engine, our loader inside.

Each rule says why in its problem; the sources are djl-serving's ModelInfo, LmiConfigRecommender,
PyModel and ModelStore (wlm/src/main/java, engines/python).
"""

import ast
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.properties import PROPERTIES_NAME, parse_properties, split_at_first_equals

CONTRACT: Final = "djl-python"
_NAME_LETTERS = 255
_RECOMMENDER = ("config.json", "adapter_config.json", "model_index.json", "params.json")
_PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


def served_properties(tree: Path) -> dict[str, str]:
    """The tree's properties as Java reads them; empty where it cannot."""
    try:
        return parse_properties((tree / PROPERTIES_NAME).read_bytes())
    except (OSError, PackageInvalid):
        return {}


def reader_problems(tree: Path) -> Iterator[str]:
    """What one of the file's two readers, Java and Python, does not read, or reads differently."""
    try:
        data = (tree / PROPERTIES_NAME).read_bytes()
    except OSError:
        yield f"{PROPERTIES_NAME}: must be a plain file at the root, or DJL takes folders as models"
        return
    try:
        found = parse_properties(data)
    except PackageInvalid as error:
        yield from error.problems
        return
    naive = split_at_first_equals(data)
    for key in sorted(found.keys() | naive.keys()):
        if found.get(key) != naive.get(key):
            yield (
                f"{PROPERTIES_NAME}: {key!r} reads as {found.get(key)!r} in Java and as "
                f"{naive.get(key)!r} in Python"
            )


def _value_problems(tree: Path) -> Iterator[str]:
    found = served_properties(tree)
    if not found:
        return
    rules: list[tuple[str, tuple[str, ...], str]] = [
        ("engine", ("Python", "MPI"), "without it DJL guesses the engine from the files"),
        ("option.rolling_batch", ("disable",), "the default, auto, picks a batcher of its own"),
        ("option.async_mode", ("false", "true"), "Java compares the exact word"),
        ("minWorkers", ("1",), "every worker loads the model again"),
        ("maxWorkers", ("1",), "every worker loads the model again"),
    ]
    for key, allowed, why in rules:
        if found.get(key) not in allowed:
            wanted = " or ".join(allowed)
            value = found.get(key)
            what = "is missing" if value is None else f"is {value!r}"
            yield f"{PROPERTIES_NAME}: {key} {what}; it must be {wanted}: {why}"


def _entry_problems(tree: Path) -> Iterator[str]:
    found = served_properties(tree)
    if not found:
        return
    entry = found.get("option.entryPoint")
    if entry is None:
        yield f"{PROPERTIES_NAME}: option.entryPoint is missing; images then choose their own"
        return
    path = tree / entry
    outside = entry.startswith("/") or ".." in entry.split("/")
    if outside or not os.path.isfile(path):  # noqa: PTH113 - false for a name no disk takes
        yield f"{PROPERTIES_NAME}: option.entryPoint={entry} is not a file of this artifact"
        return
    try:
        module = ast.parse(path.read_bytes(), filename=entry)
    except (SyntaxError, ValueError) as error:
        yield f"{entry}: is not Python: {error}"
        return
    handler = found.get("option.handler", "handle")
    wants_async = found.get("option.async_mode") == "true"
    kinds = [
        isinstance(node, ast.AsyncFunctionDef)
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == handler
    ]
    if not kinds:
        yield f"{entry}: defines no function {handler!r}; DJL would silently run its own handler"
    elif kinds[-1] != wants_async:
        wanted = "async def" if wants_async else "def"
        yield f"{entry}: option.async_mode={str(wants_async).lower()} needs `{wanted} {handler}`"


def _recommender_problems(tree: Path) -> Iterator[str]:
    for name in _RECOMMENDER:
        if (tree / name).exists():
            yield f"{name}: at the root it starts DJL's recommender; put it into a sub-folder"


def requirement_problems(tree: Path) -> Iterator[str]:
    """Packages that would be installed from the network when the endpoint starts."""
    requirements = tree / "requirements.txt"
    if requirements.exists():
        lines = {line.strip() for line in requirements.read_text("utf-8", "replace").splitlines()}
        if "--no-index" not in lines:
            yield (
                "requirements.txt: pip would install from the network when the endpoint starts; "
                "add a --no-index line and the wheels, or remove it"
            )


def name_problems(tree: Path) -> Iterator[str]:
    """Names that SageMaker does not accept."""
    for path in _files(tree):
        name = path.relative_to(tree).as_posix()
        if len(name) > _NAME_LETTERS:
            yield f"{name!r}: is longer than the {_NAME_LETTERS} characters SageMaker accepts"


def _pickle_problems(tree: Path) -> Iterator[str]:
    for path in _files(tree):
        why = _pickled(path)
        if why is not None:
            name = path.relative_to(tree).as_posix()
            yield f"{name!r}: {why}; a pickle runs code when it is loaded, use safetensors"


def _files(tree: Path) -> list[Path]:
    return sorted(path for path in tree.rglob("*") if path.is_file())


def _pickled(path: Path) -> str | None:
    if path.suffix.lower() in _PICKLES:
        return f"is named like a pickle ({path.suffix})"
    with path.open("rb") as stream:
        head = stream.read(4)
        if head == b"PK\x03\x04" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith(".pkl") for name in archive.namelist()):
                    return "is an archive with a pickle inside"
        is_pickle = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5  # noqa: PLR2004 - pickle's PROTO opcode and its protocols
        if is_pickle and path.suffix != ".safetensors":
            stream.seek(-1, 2)
            if stream.read() == b".":
                return "is a pickle"
    return None


RULES: Final[Mapping[str, Callable[[Path], Iterator[str]]]] = {
    "properties-readers": reader_problems,
    "properties-values": _value_problems,
    "entry-point": _entry_problems,
    "recommender-files": _recommender_problems,
    "requirements": requirement_problems,
    "file-names": name_problems,
    "pickles": _pickle_problems,
}
