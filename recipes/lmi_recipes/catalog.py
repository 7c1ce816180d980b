"""The recipes that come with the package."""

from pathlib import Path

from lmi_recipes.errors import UnknownRecipe
from lmi_recipes.naming import DATA, file_named, names_in, nearest

_FOLDER = DATA / "catalog"


def catalog_names() -> tuple[str, ...]:
    """Return the names of the recipes in the catalogue, sorted."""
    return names_in(_FOLDER)


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
