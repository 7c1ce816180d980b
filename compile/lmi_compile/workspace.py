"""The workspace: one directory per key, complete or invisible.

    <root>/steps/<key>/out/      the step's outputs
    <root>/steps/<key>/step.json what entered the key, and how long it took
    <root>/steps/<key>/log.txt   what the step printed
    <root>/staging/<key>.<n>/    a step that is being built; garbage once its lock is free
    <root>/failed/<key>/log.txt  the log of a failed try; its outputs are gone
    <root>/locks/<key>           held while a process builds that key
    <root>/locks/runs            shared by all that work here; `cache prune` wants it alone

A directory under `steps/` appears by one rename, after everything in it has reached the disk.
Locks are `flock`s: the kernel frees them when their process dies, however it dies.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue, canonical_json
from lmi_compile.errors import EnvironmentFault

RUNS_LOCK = "runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Where one step is being built.

    Attributes:
        root: the staging directory; the step's process runs in it.
        out: the output directory, empty at first.
        log: what the process prints.
    """

    root: Path
    out: Path
    log: Path

    @property
    def key(self) -> str:
        """Of the step, where a workspace made the directory."""
        return self.root.name.partition(".")[0]

    @property
    def tmp(self) -> Path:
        """A scratch directory, empty at first and gone afterwards."""
        return self.root / "tmp"

    @property
    def failure(self) -> Path:
        """Where a `Call` writes why it failed."""
        return self.tmp / "failure.json"

    @classmethod
    def at(cls, root: Path) -> "Staging":
        """The staging directory `root`, by the names that every one has."""
        return cls(root=root, out=root / "out", log=root / "log.txt")

    def create(self) -> "Staging":
        """Make its directories."""
        self.out.mkdir(parents=True)
        self.tmp.mkdir()
        return self


def key_of(out: Path) -> str:
    """The key of the finished step whose output directory this is."""
    return out.parent.name


class Workspace:
    """The per-key directories under one root.

    Args:
        root: created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Path | None:
        """The output directory of a finished step, or None; looking changes nothing."""
        out = self.root / "steps" / key / "out"
        return out if out.is_dir() else None

    def record(self, key: str) -> dict[str, JSONValue]:
        """What entered a finished step's key, with its name and seconds."""
        loaded: dict[str, JSONValue] = json.loads(
            (self.root / "steps" / key / "step.json").read_bytes()
        )
        return loaded

    def finished(self) -> Iterator[str]:
        """The keys of all finished steps."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.root / "steps"):
                yield entry.name

    @contextlib.contextmanager
    def lock(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold `key`; `on_wait` is called once when another process holds it."""
        path = self.lock_file(key)
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Let nobody prune what is used while the block runs."""
        try:
            handle = self.lock_file(RUNS_LOCK).open("a")
        except (OSError, EnvironmentFault):
            yield
            return
        with handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    def lock_file(self, name: str) -> Path:
        """Where a lock is."""
        return self._folder("locks") / name

    def use(self, key: str) -> None:
        """Note that a finished step was used now: what is used least is pruned first."""
        with contextlib.suppress(OSError):
            os.utime(self.root / "steps" / key / "step.json")

    def stage(self, key: str) -> Staging:
        """A fresh staging directory for `key`; the caller holds its lock.

        What dead processes left behind for this key is removed first.
        """
        folder = self._folder("staging")
        for old in folder.glob(f"{key}.*"):
            shutil.rmtree(old, ignore_errors=True)
        return Staging.at(folder / f"{key}.{os.getpid()}").create()

    def commit(self, key: str, staging: Staging, record: Mapping[str, JSONValue]) -> Path:
        """Make a built step visible, all of it at once.

        Returns:
            the step's output directory.
        """
        shutil.rmtree(staging.tmp, ignore_errors=True)
        (staging.root / "step.json").write_bytes(canonical_json(dict(record)))
        _sync_tree(staging.root)
        final = self._folder("steps") / key
        staging.root.rename(final)
        _sync(final.parent)
        return final / "out"

    def fail(self, key: str, staging: Staging) -> Path:
        """Keep a failed step's log and nothing else; returns the log's new place."""
        log = self.root / "failed" / key / "log.txt"
        with contextlib.suppress(OSError):  # on a full disk the room that it frees is worth more
            log.parent.mkdir(parents=True, exist_ok=True)
            staging.log.replace(log)
        shutil.rmtree(staging.root, ignore_errors=True)
        return log

    def discard(self, key: str) -> None:
        """Forget a finished step, so that it runs again next time."""
        shutil.rmtree(self.root / "steps" / key, ignore_errors=True)

    def staging_folder(self) -> Path:
        """Where things are made before they are visible."""
        return self._folder("staging")

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.root, error) from error
        return folder


@contextlib.contextmanager
def disk_faults(root: Path) -> Iterator[None]:
    """Turn a full or read-only disk under `root` into an error that says what to do.

    Raises:
        EnvironmentFault: the disk is full, read-only, or closed to this user.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES}:
            raise _unusable(root, error) from error
        raise


def stopwatch() -> Callable[[], float]:
    """Seconds since this call, when called again."""
    start = time.monotonic()
    return lambda: round(time.monotonic() - start, 3)


def _unusable(root: Path, error: OSError) -> EnvironmentFault:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    room = "free some space (`lmi-compile cache prune`), or " if full else ""
    return EnvironmentFault(
        f"the cache at {root} cannot be written",
        str(error.strerror),
        f"{room}name another folder with --cache-dir or LMI_CACHE_DIR",
    )


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            _sync(Path(folder) / name)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
