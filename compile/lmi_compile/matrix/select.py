"""`--select`: which members of a matrix are meant."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import CompileError, MatrixInvalid
from lmi_compile.matrix.members import Member
from lmi_compile.models.identity import read_config
from lmi_recipes.model import Recipe
from lmi_recipes.problems import closest
from lmi_recipes.reading import LoadedRecipe
from lmi_recipes.rules import field_paths

# Short words for what people select by.
_SHORT = {
    "model": "model.id",
    "quantization": "quantization.method",
    "batch": "shapes.max_batch_size",
}
_OWN = ("family", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """`field=pattern`, or `field!=pattern`; a pattern is a glob, `a|b` is either."""

    field: str
    pattern: str
    wanted: bool


def parse_conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions of `--select` texts; all of them must hold.

    Raises:
        MatrixInvalid: a text is no condition, or names no field.
    """
    return tuple(_condition(part) for text in texts for part in text.split(","))


def select(members: Iterable[Member], conditions: tuple[Condition, ...]) -> tuple[Member, ...]:
    """The members that every condition holds for.

    A file that is no recipe stays unless its name is excluded: nothing is dropped unseen.

    Raises:
        MatrixInvalid: none is left.
    """
    chosen = tuple(member for member in members if _holds(member, conditions))
    if not chosen:
        raise MatrixInvalid("no recipe is selected", fix="look at --select")
    return chosen


def family_of(loaded: LoadedRecipe) -> str:
    """The model_type of its config.json, where that is on this machine; else empty."""
    model = loaded.recipe.model
    named = loaded.beside(model.config) if model.config else loaded.beside(model.id) / "config.json"
    try:
        return str(read_config(named).get("model_type", "")) if named.is_file() else ""
    except (CompileError, OSError):
        return ""


def target_of(recipe: Recipe) -> str:
    """The instance type or CPU level that it is for."""
    return recipe.target.instance_type or recipe.target.cpu or ""


def _condition(text: str) -> Condition:
    field, equals, pattern = text.partition("=")
    wanted = not field.endswith("!")
    field = field.removesuffix("!").strip()
    field = _SHORT.get(field, field)
    known = (*_OWN, *_SHORT, *field_paths(Recipe))
    if not equals:
        raise MatrixInvalid(f"--select {text}: must have the form field=value")
    if field not in known:
        nearest = closest(field, known)
        fix = f"did you mean {nearest}?" if nearest else f"short words: {', '.join(_OWN)}"
        raise MatrixInvalid(f"--select {text}: {field} is no field of a recipe", fix=fix)
    return Condition(field=field, pattern=pattern.strip(), wanted=wanted)


def _holds(member: Member, conditions: tuple[Condition, ...]) -> bool:
    if not isinstance(member.loaded, LoadedRecipe):
        named = [one for one in conditions if one.field == "name"]
        return all(_fits(member.name, one.pattern) is one.wanted for one in named)
    return all(_fits(_value(member.loaded, one), one.pattern) is one.wanted for one in conditions)


def _value(loaded: LoadedRecipe, condition: Condition) -> str:
    match condition.field:
        case "family":
            return family_of(loaded)
        case "target":
            return target_of(loaded.recipe)
        case path:
            value: JSONValue = loaded.recipe.to_json()
            for part in path.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            return str(value)


def _fits(value: str, pattern: str) -> bool:
    return any(fnmatchcase(value, one) for one in pattern.split("|"))
