"""A scratch folder whose path depends on nothing but what is compiled in it.

Inductor names its files by hashes that contain their own path, and gcc writes paths into the
object: the same work in the same path gives the same bytes (measured), in another path it does not.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmi_compile.errors import EnvironmentFault

# Not TMPDIR, which differs from build to build and would be compiled in.
_ROOT = Path("/tmp")  # noqa: S108 - the folder inside is checked to be ours
_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@contextmanager
def fixed_scratch(name: str) -> Iterator[Path]:
    """An empty folder under /tmp (else TMPDIR), this process's alone, gone afterwards.

    While it exists it is the temporary directory, and torch's compile caches are in it. Two
    processes that want the same name take turns; what a killed one left is removed first.

    Args:
        name: Decides the path; made of characters that a file name may have.

    Raises:
        EnvironmentFault: The path exists and belongs to somebody else.
    """
    root = _ROOT if os.access(_ROOT, os.W_OK) else Path(tempfile.gettempdir())
    home = _shared_folder(root / "lmi-compile")
    with _locked(home / f"{name}.lock"):
        folder = home / name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            what = f"{folder} was left by another user of this machine"
            raise EnvironmentFault(what, "", "let its owner or root remove it") from error
        try:
            with _temporary_directory(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _temporary_directory(folder: Path) -> Iterator[None]:
    places = {"TMPDIR": folder / "tmp", **{name: folder / name.lower() for name in _CACHES}}
    before = {name: os.environ.get(name) for name in places}
    chosen = tempfile.tempdir
    for name, place in places.items():
        place.mkdir()
        os.environ[name] = str(place)
    tempfile.tempdir = str(places["TMPDIR"])
    try:
        yield
    finally:
        tempfile.tempdir = chosen
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _shared_folder(folder: Path) -> Path:
    """One folder for all users, as /tmp is: a user's number in the path would change the bytes."""
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or not (found.st_mode & stat.S_ISVTX):
        what = f"{folder} is not a directory that users share as /tmp"
        raise EnvironmentFault(what, "", "remove it")
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `path`, whoever made it: to lock a file, reading it is enough."""
    with suppress(FileExistsError):
        path.touch(mode=0o644, exist_ok=False)
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
