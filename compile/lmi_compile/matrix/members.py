"""Which builds a matrix has: folders, globs and recipes in, one member for each build out."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lmi_compile.errors import MatrixInvalid
from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.errors import RecipesError
from lmi_recipes.fanout import MOST_BUILDS, fan_out
from lmi_recipes.reading import LoadedRecipe

_SUFFIXES = {".yaml", ".yml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One build of a matrix.

    Attributes:
        name: of the artifact; of the file where that is no recipe.
        path: the file it comes from.
        loaded: the recipe, or the error that it is none.
    """

    name: str
    path: Path
    loaded: LoadedRecipe | RecipesError


def collect(sources: Iterable[str], overrides: tuple[str, ...] = ()) -> tuple[Member, ...]:
    """The builds that the words on the command line ask for.

    A folder means the recipes in it and below, but for files and folders whose name starts with
    `_` or `.` (what others import); a glob means files, or else names of the catalogue.

    Args:
        sources: folders, globs, recipe files and catalogue names.
        overrides: `--set` texts, for every recipe.

    Raises:
        MatrixInvalid: a source means nothing, two builds have one name, or there are too many.
        UnknownRecipe: a word is neither a file nor a catalogue name.
    """
    members: list[Member] = []
    for path in _files(sources):
        members += _members(path, overrides)
        if len(members) > MOST_BUILDS:
            what = f"more than {MOST_BUILDS:,} builds at {path}"
            raise MatrixInvalid(what, fix="plan them in several parts")
    _refuse_twins(members)
    return tuple(members)


def _members(path: Path, overrides: tuple[str, ...]) -> Iterator[Member]:
    try:
        for one in fan_out(path, overrides):
            yield Member(name=one.name, path=path, loaded=one.made)
    except RecipesError as error:
        yield Member(name=path.stem, path=path, loaded=error)


def _files(sources: Iterable[str]) -> tuple[Path, ...]:
    found: dict[Path, Path] = {}
    for source in sources:
        for path in _meant_by(source):
            found.setdefault(path.resolve(), path)
    return tuple(found.values())


def _meant_by(source: str) -> list[Path]:
    folder = Path(source)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if _is_recipe(path, folder))
        if not files:
            raise MatrixInvalid(f"{source} holds no recipe", fix="recipes are files named *.yaml")
        return files
    if not glob.has_magic(source) or folder.is_file():
        return [find_recipe(source)]
    files = [Path(name) for name in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207 - Path.glob refuses absolute patterns
    files = [path for path in files if path.is_file() and path.suffix in _SUFFIXES]
    files = files or [find_recipe(name) for name in catalog_names() if fnmatchcase(name, source)]
    if not files:
        what = f"{source} fits no file and no recipe of the catalogue"
        raise MatrixInvalid(what, fix="`lmi-compile recipes` lists the catalogue")
    return files


def _is_recipe(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    there = path.is_file() or path.is_symlink()  # a link to nothing is an error to be told
    return path.suffix in _SUFFIXES and there and not any(
        part.startswith(("_", ".")) for part in parts
    )  # fmt: skip


def _refuse_twins(members: Iterable[Member]) -> None:
    first: dict[str, Member] = {}
    twins = []
    for member in members:
        other = first.setdefault(member.name, member)
        if other is not member:
            twins.append(f"{member.name}: {other.path} and {member.path}")
    if twins:
        shown = [*twins[:5], f"and {len(twins) - 5} more"] if len(twins) > 5 else twins  # noqa: PLR2004 - as many as fit a screen
        what = f"{len(twins)} names stand twice in this matrix"
        raise MatrixInvalid(what, "\n".join(shown), "give every recipe, and every value, its own")
