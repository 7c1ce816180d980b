"""`matrix:` of a recipe: one build for each combination of the values it lists."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import prod
from pathlib import Path

from lmi_recipes.aliases import normalise
from lmi_recipes.errors import RecipeInvalid
from lmi_recipes.fields import Scalar
from lmi_recipes.imports import merge
from lmi_recipes.nodes import Entry, Node
from lmi_recipes.problems import Problem, at
from lmi_recipes.reading import LoadedRecipe, RecipeTree, read_tree

MOST_BUILDS = 10_000
_LONGEST_NAME = 128
_OPEN = ("runtime.", "verify.gates.")
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9._]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One build of a recipe's matrix: a recipe, or the error that it is not one.

    Attributes:
        name: of the artifact.
        path: the file it comes from.
        values: what the matrix set, by field; empty for a recipe without a matrix.
        made: the recipe, or why this combination is none.
    """

    name: str
    path: Path
    values: Mapping[str, Scalar]
    made: LoadedRecipe | RecipeInvalid


def fan_out(path: Path, overrides: tuple[str, ...] = ()) -> Iterator[Combination]:
    """The builds that a recipe file asks for: one, or one for each combination of its matrix.

    Args:
        path: the file.
        overrides: `--set` texts; they hold for every combination.

    Raises:
        RecipeUnreadable, RecipeInvalid: the file itself is no recipe, or asks for too many.
    """
    tree = read_tree(path, overrides)
    base = RecipeTree(
        root=_copy(tree.root), path=path, notes=tree.notes, problems=tree.problems
    ).load()
    fields = base.recipe.matrix
    if not fields:
        yield Combination(name=base.recipe.name, path=path, values={}, made=base)
        return
    count = prod(len(values) for values in fields.values())
    entry = _entries(tree.root).pop("matrix")
    if count > MOST_BUILDS:
        message = f"makes {count:,} builds; at most {MOST_BUILDS:,} are planned together"
        raise RecipeInvalid([at(entry.key, message, field="matrix")])
    for values in product(*fields.values()):
        yield _combination(tree, base.recipe.name, dict(zip(fields, values, strict=True)), entry)


def _combination(
    tree: RecipeTree, name: str, values: Mapping[str, Scalar], entry: Entry
) -> Combination:
    root = _copy(tree.root)
    named: dict[str, Scalar] = {"name": _name(name, values), **values}
    problems: list[Problem] = []
    for field, value in named.items():
        node = Node(entry.key, value, str(value))
        prefix = next((one for one in _OPEN if field.startswith(one)), "")
        parts = [*prefix.rstrip(".").split("."), field.removeprefix(prefix)] if prefix else (
            field.split("."))  # fmt: skip
        for part in reversed(parts):
            node = Node(entry.key, {part: Entry(entry.key, node)})
        problems += normalise(node)[1]
        merge(root, node)
    made: LoadedRecipe | RecipeInvalid
    try:
        whole = (*tree.problems, *problems)
        made = RecipeTree(root=root, path=tree.path, notes=tree.notes, problems=whole).load()
    except RecipeInvalid as error:
        made = error
    return Combination(name=str(named["name"]), path=tree.path, values=values, made=made)


def _name(base: str, values: Mapping[str, Scalar]) -> str:
    """The base's name and the values: text as it is, anything else behind its field's name."""
    parts = [base]
    for field, value in values.items():
        said = str(value).lower().rstrip("/").rpartition("/")[2]
        last = field.rpartition(".")[2]
        parts.append(said if isinstance(value, str) else f"{last}-{said}")
    name = "-".join(_NOT_OF_A_NAME.sub("-", part).strip("-") for part in parts)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _LONGEST_NAME - 13]}-{digest}"


def _copy(node: Node) -> Node:
    """A tree that can be changed without changing this one."""
    match node.value:
        case dict() as entries:
            copied = {name: Entry(one.key, _copy(one.node)) for name, one in entries.items()}
            return Node(node.mark, copied, node.raw)
        case list() as items:
            return Node(node.mark, [_copy(item) for item in items], node.raw)
        case scalar:
            return Node(node.mark, scalar, node.raw)


def _entries(node: Node) -> dict[str, Entry]:
    return node.value if isinstance(node.value, dict) else {}
