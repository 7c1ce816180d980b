"""What a shell completes beside verbs and options: recipes, which are names or files."""

import click
from click.shell_completion import CompletionItem

from lmi_recipes.catalog import catalog_names


def recipe_names(
    ctx: click.Context | None, param: click.Parameter | None, incomplete: str
) -> list[CompletionItem]:
    """The catalogue's names that begin with `incomplete`; where none does, the shell's own files.

    Args:
        ctx: click's, not looked at.
        param: the same.
        incomplete: what a person has typed.
    """
    del ctx, param
    names = [CompletionItem(name) for name in catalog_names() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]
