"""Where a folder registry prepares an artifact, and how what a crash left there is found."""

import fcntl
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmi_artifacts.digest import digest_bytes
from lmi_artifacts.files import Progress, fsync_folder, remove_tree, write_all, write_new
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.statement import Statement
from lmi_artifacts.tarform import TAR_NAME
from lmi_artifacts.tree import copy_file

TREE: Final = "tree"
STATEMENTS: Final = "statements"
MANIFEST: Final = "manifest.json"


@contextmanager
def stage(area: Path) -> Iterator[Path]:
    """Give a new folder in the staging area, locked while in use and removed afterwards."""
    area.mkdir(parents=True, exist_ok=True)
    folder = area / f"{os.getpid()}-{os.urandom(8).hex()}"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        remove_tree(folder)
        os.close(lock)


def prepare(
    home: Path,
    tree: Path,
    manifest: Manifest,
    statements: Sequence[Statement],
    extra: Collection[str],
    progress: Progress | None = None,
) -> None:
    """Fill a new folder with everything an artifact's home holds, durably, the manifest last.

    `progress` is told how many bytes more of the tree are there.

    Raises:
        ArtifactRefused: a file of the tree is not what the manifest says.
        OSError: the disk is full or cannot be written.
    """
    data = manifest.to_bytes()
    copied = home / TREE
    copied.mkdir(parents=True)
    for file in manifest.files:
        target = copied / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(tree / file.path, target, file, progress)
    write_new(copied / MANIFEST_NAME, data)
    if "tar.gz" in extra:
        pack(copied, manifest, home / TAR_NAME)
    (home / STATEMENTS).mkdir()
    for statement in dict.fromkeys(item.to_bytes() for item in statements):
        write_new(home / STATEMENTS / statement_name(statement), statement)
    write_new(home / MANIFEST, data)
    for folder, _, _ in os.walk(home):
        fsync_folder(Path(folder))


def statement_name(data: bytes) -> str:
    """Name a statement's file after its content."""
    return f"{digest_bytes(data).hex}.json"


def pack(tree: Path, manifest: Manifest, dest: Path) -> None:
    """Write a tree's `model.tar.gz`; see `bundle.write_tar_gz`."""
    from lmi_artifacts.bundle import write_tar_gz  # noqa: PLC0415 - loads isal

    write_tar_gz(tree, manifest, dest)


def copy_or_pack(home: Path, manifest: Manifest, dest: Path) -> None:
    """Copy an artifact's stored `model.tar.gz`, or make it from the stored tree."""
    try:
        stored = (home / TAR_NAME).open("rb", buffering=0)
    except FileNotFoundError:
        pack(home / TREE, manifest, dest)
        return
    with stored, dest.open("xb", buffering=0) as out:
        while chunk := stored.read(2**20):
            write_all(out.fileno(), chunk)
        os.fsync(out.fileno())


def collect(area: Path, older_than: float, *, dry_run: bool) -> tuple[str, ...]:
    """Remove (or, dry, only name) staging folders that are old and belong to nobody alive."""
    if not area.is_dir():
        return ()
    found: list[str] = []
    for folder in sorted(area.iterdir()):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(lock).st_mtime >= older_than:
                found.append(str(folder))
                if not dry_run:
                    remove_tree(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
    return tuple(found)
