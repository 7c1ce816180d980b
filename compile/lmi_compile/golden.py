"""Golden outputs in a registry: a reference is computed once and shared by every machine.

What a reference or a baseline step made is kept under its step key, which covers the model's
bytes, the prompts, the dtype, the libraries and the code. Files travel as records of the registry,
in pieces; the index comes last, so what has an index is whole. Every byte is verified on read.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.foreign import parse_json
from lmi_artifacts.registry import Registry
from lmi_compile.plan import PlannedStep

SHARED = frozenset(
    {
        "lmi_verify.reference:run",
        "lmi_verify.baseline:run",
        "lmi_verify.one_pass.reference:run",
    }
)
_PIECE = 32 << 20
_FORMAT = 1
Say = Callable[[str], None]


def fetch(registry: Registry, planned: PlannedStep, out: Path, say: Say) -> bool:
    """Fill `out` with the step's golden outputs, if the registry has them whole.

    A registry that cannot be read, or a copy that is not whole, is said and counts as none.
    """
    try:
        raw = registry.read_record(_name(planned, "index.json"))
        if raw is None:
            return False
        index = parse_json(raw)
        if index["format"] != _FORMAT or set(index["files"]) != set(planned.step.outputs):
            say("the registry's golden outputs are of another form: computing them")
            return False
        for name, file in index["files"].items():
            if not _read(registry, planned, out / name, file):
                say(f"the registry's golden {name} is damaged: computing it")
                _empty(out)
                return False
    except (ArtifactsError, OSError, ValueError, KeyError, TypeError) as error:
        say(f"no golden outputs from the registry: {error}")
        _empty(out)
        return False
    say(f"golden outputs from {registry.url}, every byte verified")
    return True


def share(registry: Registry, planned: PlannedStep, out: Path, say: Say) -> None:
    """Keep the step's outputs in the registry; one that cannot be written is said, no more."""
    files = {}
    try:
        for name in planned.step.outputs:
            digest, sizes = hashlib.sha256(), []
            for number, piece in enumerate(_pieces(out / name)):
                digest.update(piece)
                sizes.append(len(piece))
                registry.add_record(_name(planned, f"{name}.{number}"), piece)
            files[name] = {"sha256": digest.hexdigest(), "pieces": sizes}
        index = {"format": _FORMAT, "files": files, "needs": planned.ingredients.get("needs")}
        data = json.dumps(index, sort_keys=True).encode()
        registry.add_record(_name(planned, "index.json"), data)
    except (ArtifactsError, OSError) as error:
        say(f"golden outputs were not shared: {error}")


def outlived(registry: Registry, live: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the records of golden outputs that nothing live needs: their pieces, and their indexes.

    Remove the first before the second: a removal that was cut short is then found again.

    An output stays while all steps that it was made of (the model's) are live. One whose index is
    not there, cannot be read or does not say what it was made of stays, too.

    Args:
        registry: which holds them.
        live: keys of the steps of what stays in it.

    Raises:
        RegistryUnavailable, RegistryTransient: the registry cannot be read.
    """
    names = registry.records("golden/")
    indexes = tuple(
        name
        for name in names
        if name.endswith("/index.json") and not _needs(registry.read_record(name)) <= set(live)
    )
    going = {name.removesuffix("index.json") for name in indexes}
    whose = (name for name in names if name.rpartition("/")[0] + "/" in going)
    return tuple(name for name in whose if name not in indexes), indexes


def _needs(index: bytes | None) -> frozenset[str]:
    """The keys of the steps that golden outputs were made of; none where nobody can tell."""
    try:
        needs = parse_json(index or b"")["needs"]
    except (ValueError, KeyError, TypeError):
        return frozenset()
    return frozenset(map(str, needs.values())) if isinstance(needs, Mapping) else frozenset()


def _read(registry: Registry, planned: PlannedStep, path: Path, file: dict[str, object]) -> bool:
    """Write one file from its pieces; False where they are not what the index says."""
    digest = hashlib.sha256()
    sizes = file["pieces"]
    if not isinstance(sizes, list):
        return False
    with path.open("wb") as target:
        for number, size in enumerate(sizes):
            piece = registry.read_record(_name(planned, f"{path.name}.{number}"))
            if piece is None or len(piece) != size:
                return False
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest() == file["sha256"]


def _name(planned: PlannedStep, part: str) -> str:
    return f"golden/{planned.key}/{part.lower()}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_PIECE):
            yield piece


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
