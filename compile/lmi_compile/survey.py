"""Survey: read what a plan needs to know, so that planning itself is pure."""

from pathlib import Path

from lmi_artifacts.digest import HashCache
from lmi_compile.backend import Order, find_backend
from lmi_compile.calibration import plan_calibration
from lmi_compile.model_steps import no_model, plan_model
from lmi_recipes.catalog import find_recipe
from lmi_recipes.errors import RecipeImpossible
from lmi_recipes.problems import Problem
from lmi_recipes.reading import LoadedRecipe, read_recipe
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import load_toolchain


def load(recipe: str, overrides: tuple[str, ...] = ()) -> LoadedRecipe:
    """The recipe that a catalogue name or a file path means.

    Raises:
        RecipesError: there is none, or it is not valid.
    """
    return read_recipe(find_recipe(recipe), overrides)


def survey(loaded: LoadedRecipe, cache_dir: Path, toolchains: tuple[Path, ...] = ()) -> Order:
    """Resolve all that a recipe names.

    Args:
        loaded: a valid recipe.
        cache_dir: where file digests are remembered.
        toolchains: more folders of toolchain files.

    Raises:
        CompileError, RecipesError: something it names is not there or does not fit.
    """
    recipe = loaded.recipe
    toolchain = load_toolchain(recipe.toolchain, toolchains)
    if toolchain.backend != recipe.backend:
        message = f"this toolchain is for the {toolchain.backend} backend, not {recipe.backend}"
        raise RecipeImpossible((_problem(loaded, "toolchain", recipe.toolchain, message),))
    cpu = load_cpu_target(recipe.target.cpu) if recipe.target.cpu else None
    hashes = HashCache(cache_dir / "hashes.json")
    base = loaded.path.parent

    def hash_file(path: Path) -> str:
        return hashes.digest(path).hex

    calibration = plan_calibration(recipe, base, hash_file)
    reads_model = find_backend(recipe.backend).READS_MODEL
    model = plan_model(recipe, base, hash_file, cache_dir) if reads_model else no_model(recipe)
    hashes.save()
    return Order(recipe=recipe, toolchain=toolchain, cpu=cpu, model=model, calibration=calibration)


def _problem(loaded: LoadedRecipe, field: str, value: str, message: str) -> Problem:
    return Problem(file=str(loaded.path), field=field, value=value, message=message)
