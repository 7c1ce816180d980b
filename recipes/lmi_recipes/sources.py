"""Model ids that name a file in a package registry."""

import re
from dataclasses import dataclass

PYPI = "pypi://"
PYPI_FORM = "pypi://<package>==<version>#<member>"
_PYPI = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)#(?P<member>[^\s#\\]+)\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiSource:
    """One member of one wheel of one version of a package."""

    package: str
    version: str
    member: str


def parse_pypi(model_id: str) -> PypiSource | None:
    """Return what `pypi://<package>==<version>#<member>` names.

    Returns:
        None when the id has another form. A member never is absolute and never climbs (`..`).
    """
    match = _PYPI.match(model_id)
    if match is None:
        return None
    member = match["member"]
    if any(part in {"", ".", ".."} for part in member.split("/")):
        return None
    return PypiSource(package=match["package"], version=match["version"], member=member)
