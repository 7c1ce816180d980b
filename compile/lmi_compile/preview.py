"""Preview: all that can be known of a recipe before anything is run."""

from dataclasses import dataclass
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import EnvironmentFault, Unsupported
from lmi_compile.feasibility.answer import answer, no_answer
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.reading import read_question
from lmi_compile.models.source import HubSource, S3Source, parse_source
from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import survey
from lmi_compile.workspace import Workspace
from lmi_recipes.errors import RecipeImpossible
from lmi_recipes.reading import LoadedRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What `plan` shows.

    Attributes:
        loaded: the recipe.
        question: what the arithmetic was asked; None without a config.json.
        answer: what it said, every key of the schema.
        planned: the steps; None where there are none, with the reason among the notes.
        cached: names of the steps that are finished already.
        notes: what else one should know.
    """

    loaded: LoadedRecipe
    question: Question | None
    answer: dict[str, JSONValue]
    planned: Plan | None
    cached: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """As `plan --json` prints it; `plan.schema.json` beside the planner describes it."""
        recipe = self.loaded.recipe
        steps: dict[str, JSONValue] = {
            "name": recipe.name,
            "backend": recipe.backend,
            "toolchain": recipe.toolchain,
            "plan_key": None,
            "steps": None,
        }
        device = self.answer["device_steps"]
        if self.planned is not None:
            steps |= self.planned.to_json()
            device = [one.step.name for one in self.planned.steps if one.step.where == "device"]
        return {
            **steps,
            "cached_steps": list(self.cached),
            **self.answer,
            "device_steps": device,
            "notes": list(self.notes),
        }


def preview(
    loaded: LoadedRecipe,
    cache_dir: Path,
    toolchains: tuple[Path, ...] = (),
    *,
    price: float | None = None,
) -> Preview:
    """Answer for a recipe; nothing is run, and of a hub model only the config is fetched, once.

    Args:
        loaded: a valid recipe.
        cache_dir: where finished steps are kept.
        toolchains: more folders of toolchain files.
        price: of the target for an hour, in US dollars.

    Raises:
        CompileError, RecipesError: something that the recipe names is wrong.
    """
    question, why = read_question(loaded, toolchains, cache_dir)
    found = answer(question, price=price) if question else no_answer()
    planned, reason, impossible = _steps(loaded, cache_dir, toolchains)
    if impossible:
        problems = found["problems"]
        assert isinstance(problems, list)  # noqa: S101 - both kinds of answer list them
        found |= {
            "fits": False,
            "problems": [*problems, *impossible],
        }
    workspace = Workspace(cache_dir)
    steps = planned.steps if planned else ()
    return Preview(
        loaded=loaded,
        question=question,
        answer=found,
        planned=planned,
        cached=tuple(one.step.name for one in steps if workspace.find(one.key)),
        notes=(
            *loaded.notes,
            *(planned.notes if planned else ()),
            *(text for text in (why, reason) if text),
        ),
    )


def _steps(
    loaded: LoadedRecipe, cache_dir: Path, toolchains: tuple[Path, ...]
) -> tuple[Plan | None, str, list[JSONValue]]:
    """The plan; or None with why there is none yet; or None with why there never will be."""
    recipe = loaded.recipe
    try:
        return make_plan(survey(loaded, cache_dir, toolchains)), "", []
    except EnvironmentFault as fault:
        return None, f"no steps: {fault.what}", []
    except RecipeImpossible as error:
        found: list[JSONValue] = [
            {"field": one.field, "message": one.message} for one in error.problems
        ]
        return None, "no steps: the backend refuses this recipe", found
    except Unsupported as fault:
        source = parse_source(recipe.model.id, loaded.path.parent)
        if isinstance(source, HubSource | S3Source) and recipe.backend != "null":
            return None, f"no steps: {fault.what}", []
        message = "; ".join(part for part in (fault.what, fault.why, fault.fix) if part)
        return None, "", [{"field": "backend", "message": message}]
