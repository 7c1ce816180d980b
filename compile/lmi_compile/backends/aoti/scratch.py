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
from contextlib import contextmanager
from pathlib import Path

from lmi_compile.errors import EnvironmentFault

# Not TMPDIR, which differs from build to build and would be compiled in.
_ROOT = Path("/tmp")  # noqa: S108 - the folder inside is checked to be ours
_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@contextmanager
def fixed_scratch(name: str) -> Iterator[Path]:
    """An empty folder under /tmp (else TMPDIR), this process's alone, gone afterwards.

    While it exists it is the temporary directory, and torch's compile caches are in it: the cache
    of precompiled headers follows the temporary directory only. Two processes that want the same
    name take turns; what a killed one left is removed first.

    Args:
        name: Decides the path; made of characters that a file name may have.

    Raises:
        EnvironmentFault: The path exists and belongs to somebody else.
    """
    root = _ROOT if os.access(_ROOT, os.W_OK) else Path(tempfile.gettempdir())
    home = root / f"lmi-compile-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    _require_ours(home)
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = home / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
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


def _require_ours(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        what = f"{folder} is not a directory of this user"
        raise EnvironmentFault(what, "", "remove it, or set TMPDIR to a directory of your own")
