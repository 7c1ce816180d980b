"""`cache prune`: the finished steps that nobody has used for longest go first.

A run holds a shared lock while it works; without one, anything may go. Beside a run only what has
not been used for a day goes, since the run may still read the rest. A step goes by one rename:
it is there whole or not at all.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmi_compile.workspace import RUNS_LOCK, Workspace

_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may stay.

    Attributes:
        seconds: steps used within so long stay; None is no limit.
        size: bytes of all steps together; None is no limit.
    """

    seconds: float | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What went, or would go.

    Attributes:
        steps: keys of finished steps.
        rubbish: logs of failed steps and what dead processes left, by path in the cache.
        freed: bytes.
        kept: bytes of the steps that stay.
        busy: a run is at work, so that what was used within a day stayed.
    """

    steps: tuple[str, ...]
    rubbish: tuple[str, ...]
    freed: int
    kept: int
    busy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    key: str
    size: int
    used: float


def prune(workspace: Workspace, rules: Rules, *, delete: bool) -> Pruned:
    """Remove what the rules do not keep; without `delete` only say what would go.

    Raises:
        EnvironmentFault, OSError: the cache cannot be written.
    """
    now = time.time()
    entries = sorted(_entries(workspace.root), key=lambda one: one.used)
    with _alone(workspace) as alone:
        going = _going(entries, rules, now, 0.0 if alone else _DAY)
        rubbish = list(_rubbish(workspace.root, rules, now, alone=alone))
        freed = sum(one.size for one in going) + sum(_size(path) for path in rubbish)
        if delete:
            for one in going:
                _remove(workspace, workspace.root / "steps" / one.key)
            for path in rubbish:
                _remove(workspace, path)
    gone = {one.key for one in going}
    return Pruned(
        steps=tuple(one.key for one in going),
        rubbish=tuple(str(path.relative_to(workspace.root)) for path in rubbish),
        freed=freed,
        kept=sum(one.size for one in entries if one.key not in gone),
        busy=not alone,
    )


def _going(
    entries: list[_Entry], rules: Rules, now: float, grace: float
) -> list[_Entry]:  # fmt: skip
    """Oldest first: what is too old, and then as much as is too much."""
    total = sum(one.size for one in entries)
    going = []
    for one in entries:
        age = now - one.used
        old = rules.seconds is not None and age > rules.seconds
        much = rules.size is not None and total > rules.size
        if (old or much) and age >= grace:
            going.append(one)
            total -= one.size
    return going


def _entries(root: Path) -> Iterator[_Entry]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(root / "steps"):
            path = Path(entry.path)
            with contextlib.suppress(FileNotFoundError):
                used = (path / "step.json").stat().st_mtime
                yield _Entry(key=entry.name, size=_size(path), used=used)


def _rubbish(root: Path, rules: Rules, now: float, *, alone: bool) -> Iterator[Path]:
    """Old logs of failures; and where nobody works, what was being made when somebody died."""
    folders = ("failed", "staging") if alone else ("failed",)
    for folder in folders:
        for path in sorted((root / folder).glob("*")):
            age = now - path.stat().st_mtime
            if folder == "staging" or (rules.seconds is not None and age > rules.seconds):
                yield path


@contextlib.contextmanager
def _alone(workspace: Workspace) -> Iterator[bool]:
    """Whether no run is at work; none begins while the block runs where that is so."""
    with workspace.lock_file(RUNS_LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remove(workspace: Workspace, path: Path) -> None:
    """Out of sight by one rename, then gone."""
    trash = workspace.staging_folder() / f"trash.{path.name}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True) if trash.is_dir() else trash.unlink()


def _size(path: Path) -> int:
    """Bytes of all files; what goes meanwhile counts nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_size
    return total
