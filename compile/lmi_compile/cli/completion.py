"""What a shell completes beside verbs and options: recipes, which are names or files."""

import click
from click.shell_completion import CompletionItem

from lmi_recipes.catalog import catalog_names


class RecipeName(click.ParamType):
    """A catalogue name or a file; any text is taken, and read later."""

    name = "recipe"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so; the shell adds its files where there is none."""
        del ctx, param
        return complete_recipe(incomplete)


def complete_recipe(incomplete: str) -> list[CompletionItem]:
    """The catalogue's names that begin with `incomplete`, and a word for the shell's own files."""
    names = [CompletionItem(name) for name in catalog_names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


RECIPE = RecipeName()
