"""Outputs of steps in a registry: how they reach machines that share no file system.

A step's files travel as records, in pieces that are named by their digests; the index comes last,
so what has an index was whole once. Every piece is verified on read, and removed where it is not
what its name says. A piece that is missing is added again by whoever still has the outputs.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lmi_artifacts.digest import canonical_json
from lmi_artifacts.errors import ArtifactsError, RegistryTransient
from lmi_artifacts.registry import open_registry
from lmi_compile.errors import EnvironmentFault, Transient

_PIECE = 32 << 20
_RUNNABLE = 0o111


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file: the digests of its pieces, and whether it is a program."""

    name: str
    pieces: tuple[str, ...]
    runnable: bool


class Depot:
    """Finished steps in a registry, by key.

    Each method raises `Transient` or `EnvironmentFault` where the registry cannot be used.

    Args:
        url: the registry's.
    """

    def __init__(self, url: str) -> None:
        with _told(url):
            self._registry = open_registry(url)

    @property
    def url(self) -> str:
        """Where the registry is, without credentials."""
        return self._registry.url

    def has(self, key: str) -> bool:
        """Whether all of that step is there; no file is read."""
        with _told(self.url):
            files = self._index(key)
            if files is None:
                return False
            there = set(self._registry.records(_start(key)))
            return all(_piece(key, one) in there for file in files for one in file.pieces)

    def put(self, key: str, out: Path) -> bool:
        """Keep what a step wrote; links are followed, empty folders left out.

        Returns:
            False where other outputs are there under this key: those count.

        Raises:
            OSError: a file cannot be read.
        """
        with _told(self.url):
            there = set(self._registry.records(_start(key)))
            names = sorted(path for path in out.rglob("*") if path.is_file())
            files = [self._add(key, out, path, there) for path in names]
            index = canonical_json(
                {"files": [[file.name, list(file.pieces), file.runnable] for file in files]}
            )
            created = self._registry.add_record(_index(key), index)
            return created or self._registry.read_record(_index(key)) == index

    def get(self, key: str, out: Path) -> bool:
        """Fill the empty folder `out` with what a step wrote.

        Returns:
            False where it is not there, or not whole; `out` is then empty.

        Raises:
            OSError: a file cannot be written.
        """
        with _told(self.url):
            files = self._index(key)
            if files is not None and all(self._write(key, out, file) for file in files):
                return True
        shutil.rmtree(out)
        out.mkdir()
        return False

    def _add(self, key: str, out: Path, path: Path, there: set[str]) -> _File:
        digests = []
        for piece in _pieces(path):
            digest = hashlib.sha256(piece).hexdigest()
            digests.append(digest)
            if _piece(key, digest) not in there:
                self._registry.add_record(_piece(key, digest), piece)
        runnable = bool(path.stat().st_mode & _RUNNABLE)
        name = path.relative_to(out).as_posix()
        return _File(name=name, pieces=tuple(digests), runnable=runnable)

    def _write(self, key: str, out: Path, file: _File) -> bool:
        path = out / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for digest in file.pieces:
                piece = self._registry.read_record(_piece(key, digest))
                if piece is None:
                    return False
                if hashlib.sha256(piece).hexdigest() != digest:
                    self._registry.remove_records([_piece(key, digest)])
                    return False
                target.write(piece)
        if file.runnable:
            path.chmod(path.stat().st_mode | _RUNNABLE)
        return True

    def _index(self, key: str) -> Sequence[_File] | None:
        raw = self._registry.read_record(_index(key))
        if raw is None:
            return None
        try:
            return [_file(*entry) for entry in json.loads(raw)["files"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"{self.url} holds no list of files as {_index(key)}"
            raise EnvironmentFault(what, str(error), "remove that record") from error


def _file(name: str, pieces: Sequence[str], runnable: object) -> _File:
    """An entry of an index that somebody may have forged."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        message = f"{name} leads out of the step's folder"
        raise ValueError(message)
    return _File(name=name, pieces=tuple(map(str, pieces)), runnable=bool(runnable))


@contextmanager
def _told(url: str) -> Iterator[None]:
    """The registry's own failures in words about steps."""
    what = f"outputs of steps cannot travel through {url}"
    try:
        yield
    except RegistryTransient as error:
        raise Transient(what, str(error), "run the same command again") from error
    except ArtifactsError as error:
        fix = "every node needs the URL, the room and the right to read and write there"
        raise EnvironmentFault(what, str(error), fix) from error


def _start(key: str) -> str:
    return f"steps/{key}/"


def _index(key: str) -> str:
    return f"{_start(key)}index.json"


def _piece(key: str, digest: str) -> str:
    return f"{_start(key)}{digest}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while piece := source.read(_PIECE):
            yield piece
