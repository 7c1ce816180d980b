"""Names of catalogue files: which there are, and which a name means."""

import re
from collections.abc import Sequence
from pathlib import Path

from lmi_recipes.problems import closest

DATA = Path(__file__).resolve().parent
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\Z")


def names_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the YAML files of a folder, sorted; none when it is missing."""
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def file_named(name: str, folder: Path) -> Path | None:
    """Return the folder's file of this name, or None; a name never leaves the folder."""
    path = folder / f"{name}.yaml"
    return path if _NAME.match(name) and path.is_file() else None


def nearest(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the known name that looks most like this one, when one does."""
    found = closest(name, known)
    return (found,) if found else ()
