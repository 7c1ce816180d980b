"""The recipes that come with the package."""

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from lmi_recipes.errors import UnknownRecipe
from lmi_recipes.naming import DATA, file_named, names_in, nearest

_FOLDER = DATA / "catalog"


def catalog_names() -> tuple[str, ...]:
    """Return the names of the recipes in the catalogue, sorted."""
    return names_in(_FOLDER)


def search_catalog(words: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the recipes whose name or text has every one of `words`, in any case.

    A recipe's text says its model, target, method and the line why it is so.

    Raises:
        UnknownRecipe: None has; holds the names nearest to the words.
    """
    wanted = [word.casefold() for word in words]
    found = []
    for name in catalog_names():
        text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").casefold()
        if all(word in name or word in text for word in wanted):
            found.append(name)
    if not found:
        known = catalog_names()
        raise UnknownRecipe(" ".join(wanted), nearest("-".join(wanted), known), known)
    return tuple(found)


def why_so(path: Path) -> str:
    """Return the sentences at the head of a recipe file: why it is as it is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = takewhile(lambda line: line.startswith("#"), lines)
    said = (line[1:].strip() for line in head)
    return " ".join(line for line in said if not line.startswith("yaml-language-server"))


def find_recipe(ref: str) -> Path:
    """Return the recipe file that a word on the command line means.

    Args:
        ref: A file that exists, which wins, or a catalogue name with or without `.yaml`.

    Raises:
        UnknownRecipe: Neither; holds the nearest catalogue names.
    """
    path = Path(ref)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long for the file system, or a null byte
        exists = False
    if exists:
        return path
    name = ref.removesuffix(".yaml")
    found = file_named(name, _FOLDER)
    if found is None:
        known = catalog_names()
        raise UnknownRecipe(ref, nearest(Path(name).name, known), known)
    return found
