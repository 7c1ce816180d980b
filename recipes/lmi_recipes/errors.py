"""The errors of the recipes room, by whose fault they are."""

from collections.abc import Sequence

from lmi_recipes.problems import Problem


class RecipesError(Exception):
    """Base of every error this room raises on purpose."""


class _ProblemsError(RecipesError):
    """An error made of problems, each with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems; the message is one line for each."""
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RecipeUnreadable(_ProblemsError):
    """The file could not be read as YAML: missing, too large, not text, broken, or a bomb."""


class RecipeInvalid(_ProblemsError):
    """The file is YAML and breaks the schema."""


class RecipeImpossible(_ProblemsError):
    """The recipe is valid, but this model, target or toolchain cannot do it."""


class _UnknownNameError(RecipesError):
    """A name that no catalogue has."""

    kind = "name"
    listing = ""
    hint = ""

    def __init__(self, name: str, nearest: Sequence[str], known: Sequence[str] = ()) -> None:
        """Keep the name, the nearest known names, and all known ones."""
        self.name = name
        self.nearest = tuple(nearest)
        self.known = tuple(known)
        message = f"no {self.kind} is named {name!r}"
        if self.nearest:
            message += f"; did you mean {' or '.join(self.nearest)}?"
        elif self.listing:
            message += f"; `{self.listing}` lists the {len(self.known)} there are"
        elif self.known:
            message += f"; there are {', '.join(self.known)}"
        super().__init__(message + self.hint)


class UnknownRecipe(_UnknownNameError):
    """Neither a file nor a catalogue recipe has this name."""

    kind = "recipe file or catalogue recipe"
    listing = "lmi-compile recipes"


class UnknownToolchain(_UnknownNameError):
    """No toolchain file has this name."""

    kind = "toolchain"


class UnknownTarget(_UnknownNameError):
    """No target has this name."""

    kind = "target"
