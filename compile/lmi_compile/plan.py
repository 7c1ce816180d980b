"""A plan says how: the steps of a recipe, each with its key. Pure: nothing is run or fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lmi_artifacts.digest import JSONValue, digest_json
from lmi_compile.backend import Backend, Order, find_backend, notes_of, remarks_on, skipped_by
from lmi_compile.errors import OurBug, Unsupported
from lmi_compile.keys import key_ingredients, step_key
from lmi_compile.step import Argv, Call, Step

# Parts of a recipe that do not change what is built: they say how it is judged, in which forms it
# is stored and where, which other recipes fan out from it, where its text stands, and what it is
# to people.
_OUTSIDE_THE_ARTIFACT = frozenset(
    {"verify", "package", "publish", "matrix", "imports", "description"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step, its key, and everything that entered the key."""

    step: Step
    key: str
    ingredients: Mapping[str, JSONValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one recipe, in an order that can be run.

    Attributes:
        order: the recipe with all that it names, resolved.
        backend: the backend that planned it.
        steps: in order; a step's needs come before it.
        recipe: the resolved recipe as the manifest holds it: what is the same for the same build.
        skipped: steps that the backend has for other recipes, with why this one cannot have them.
        notes: what the backend says about the artifact before it is built.
    """

    order: Order
    backend: Backend
    steps: tuple[PlannedStep, ...]
    recipe: Mapping[str, JSONValue]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> dict[str, str]:
        """Each step's key, by name."""
        return {planned.step.name: planned.key for planned in self.steps}

    @property
    def plan_key(self) -> str:
        """The key of the whole: what is built, how it is judged and proven."""
        return digest_json(dict(self.keys)).hex

    @property
    def action_key(self) -> str:
        """Under which a registry remembers the artifact: the plan, the resolved recipe, the forms.

        The recipe counts here because its name and serve-time knobs are in the artifact though
        they are in no step's key; the layouts because they are what was asked to be stored.
        """
        layouts: list[JSONValue] = [*sorted(self.order.recipe.package.layouts)]
        recipe = dict(self.recipe)
        return digest_json({"plan": self.plan_key, "recipe": recipe, "layouts": layouts}).hex

    def through(self, name: str) -> tuple[PlannedStep, ...]:
        """The step called `name` and all that it needs, in order.

        Raises:
            Unsupported: the plan has no such step.
        """
        by_name = {planned.step.name: planned for planned in self.steps}
        if name not in by_name:
            what = f"this plan has no step called {name}"
            raise Unsupported(what, fix=f"its steps are {', '.join(by_name)}")
        wanted = {name}
        for planned in reversed(self.steps):
            if planned.step.name in wanted:
                wanted.update(planned.step.needs)
        return tuple(planned for planned in self.steps if planned.step.name in wanted)

    def to_json(self) -> dict[str, JSONValue]:
        """The plan as `lmi-compile plan --json` prints it."""
        return {
            "name": self.order.recipe.name,
            "backend": self.order.recipe.backend,
            "toolchain": self.order.toolchain.name,
            "versions": dict(self.order.toolchain.versions),
            "skipped": dict(self.skipped),
            "plan_key": self.plan_key,
            "steps": [_step_json(planned) for planned in self.steps],
        }


def make_plan(order: Order) -> Plan:
    """Plan a recipe.

    Raises:
        EnvironmentFault: the recipe's backend is not built yet.
        Unsupported: the recipe is valid, but cannot be done.
    """
    backend = find_backend(order.recipe.backend)
    planned: list[PlannedStep] = []
    keys: dict[str, str] = {}
    for bare in backend.steps(order):
        step = bare if bare.where == "host" else replace(bare, image=order.toolchain.image)
        unknown = [need for need in step.needs if need not in keys]
        if unknown or step.name in keys:
            what = f"backend {order.recipe.backend}: step {step.name} needs {unknown} before it"
            raise OurBug(what)
        ingredients = key_ingredients(step, keys)
        keys[step.name] = step_key(ingredients)
        planned.append(PlannedStep(step=step, key=keys[step.name], ingredients=ingredients))
    recipe = _built_recipe(order)
    return Plan(
        order=order,
        backend=backend,
        steps=tuple(planned),
        recipe=recipe,
        skipped=skipped_by(backend, order),
        notes=(*remarks_on(recipe), *notes_of(backend, order)),
    )


def _built_recipe(order: Order) -> dict[str, JSONValue]:
    """The recipe without what is outside the artifact, and with the model by its contents."""
    recipe: dict[str, JSONValue] = {
        field: value
        for field, value in order.recipe.to_json().items()
        if field not in _OUTSIDE_THE_ARTIFACT
    }
    recipe["model"] = {**_mapping(recipe["model"]), **order.model.identity}
    return recipe


def _mapping(value: JSONValue) -> dict[str, JSONValue]:
    return dict(value) if isinstance(value, Mapping) else {}


def _step_json(planned: PlannedStep) -> dict[str, JSONValue]:
    step = planned.step
    run: dict[str, JSONValue]
    match step.run:
        case Call(function=function, params=params):
            run = {"call": function, "params": dict(params)}
        case Argv(argv=argv):
            run = {"argv": list(argv)}
    return {
        "name": step.name,
        **run,
        "env": dict(step.env),
        "where": step.where,
        "needs": list(step.needs),
        "outputs": list(step.outputs),
        "key": planned.key,
    }
