"""Steps that every backend for language models shares."""

from collections.abc import Mapping
from dataclasses import replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import Unsupported
from lmi_compile.host import installed_version
from lmi_compile.step import Call, Step
from lmi_recipes.model import Recipe
from lmi_verify.gates import gates_for
from lmi_verify.prompts import load_prompts
from lmi_verify.tasks import built_in, digest_of

GREEDY_TOKENS = 64
PROOF_PROMPT = "The capital of France is"
_PROOF_TOKENS = 16
_PROOF_TIMEOUT_SECONDS = 300


def reference_step(recipe: Recipe) -> Step:
    """The Hugging Face model's own outputs in float32: shared by every backend and degree."""
    prompts = load_prompts(recipe.verify.prompts)
    return Step(
        name="reference",
        run=Call(
            function="lmi_verify.reference:run",
            params={
                "prompts": prompts.version,
                "prompts_digest": prompts.digest,
                "max_input_len": recipe.shapes.max_input_len,
                "max_seq_len": recipe.shapes.max_seq_len,
                "forced_tokens": GREEDY_TOKENS,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
        ),
        needs=("model",),
        outputs=("prompts.json", "prompts.safetensors", "outputs.json", "outputs.safetensors"),
        identity=_libraries(),
    )


def baseline_step(recipe: Recipe) -> Step | None:
    """The model in the build's own numbers; None where those are the reference's.

    A method whose arithmetic a backend decides has the model in the build's dtype, or nothing
    where that is float32.
    """
    rounding = "int8-rows" if recipe.quantization.method == "int8_wo" else "none"
    if recipe.dtype == "float32" and rounding == "none":
        return None
    return Step(
        name="baseline",
        run=Call(
            function="lmi_verify.baseline:run",
            params={
                "dtype": recipe.dtype,
                "rounding": rounding,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
        ),
        needs=("model", "reference"),
        outputs=("outputs.json", "outputs.safetensors"),
        identity=_libraries(),
    )


def _libraries() -> dict[str, JSONValue]:
    return {name: installed_version(name) for name in ("torch", "transformers")}


def task_steps(recipe: Recipe, candidate: Step | None) -> tuple[Step, ...]:
    """What is asked for the recipe's tasks, and the build's answers; nothing without tasks.

    Raises:
        Unsupported: the backend's probe does not score texts, or nobody knows a task.
    """
    if not recipe.verify.tasks:
        return ()
    names = ", ".join(task.name for task in recipe.verify.tasks)
    if candidate is None:
        what = f"verify.tasks: the {recipe.backend} backend's probe scores no tasks ({names})"
        fix = "leave verify.tasks out; the verdict judges logits, texts and perplexity"
        raise Unsupported(what, fix=fix)
    foreign = [task.name for task in recipe.verify.tasks if task.name not in built_in()]
    harness = installed_version("lm_eval") if foreign else None
    asked = Step(
        name="tasks",
        run=Call(
            function="lmi_verify.questions:run",
            params={
                "tasks": [
                    {
                        "name": task.name,
                        "num_samples": task.num_samples,
                        "max_drop": task.max_drop,
                        **({} if task.name in foreign else {"digest": digest_of(task.name)}),
                    }
                    for task in recipe.verify.tasks
                ],
                "max_input_len": recipe.shapes.max_input_len,
                "max_seq_len": recipe.shapes.max_seq_len,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
        ),
        needs=("model",),
        outputs=("tasks.json", "prompts.json", "prompts.safetensors", *candidate.outputs),
        identity={**_libraries(), **({"lm_eval": harness} if harness else {})},
        network=bool(foreign),
    )
    needs = tuple("tasks" if need == "reference" else need for need in candidate.needs)
    return asked, replace(candidate, name="tasks-candidate", needs=needs)


def judge_steps(
    recipe: Recipe,
    method: str | None = None,
    shows: tuple[str, ...] = (),
    scorer: Step | None = None,
) -> tuple[Step, ...]:
    """The baseline where there is one, and the verdict on the candidate from all sides' outputs.

    Where the recipe has tasks, their steps come before.

    Args:
        recipe: the recipe.
        method: the gates' name for its quantisation, where that says more than the recipe's.
        shows: what the backend's probe writes beside logits and continuations, of
            `lmi_verify.outputs.PARTS`.
        scorer: the candidate step, where its probe writes likelihoods of any text.

    Raises:
        GateInvalid: the recipe's own gates name no metric, or no number.
        Unsupported: the recipe asks for tasks, and the backend's probe scores none.
    """
    tasks = task_steps(recipe, scorer)
    gates: Mapping[str, JSONValue] = dict(recipe.verify.gates)
    method = method or gate_method(recipe)
    gates_for(recipe.dtype, method, gates)
    baseline = baseline_step(recipe)
    before = () if baseline is None else (baseline,)
    judge = Step(
        name="judge",
        run=Call(
            function="lmi_verify.judging:run",
            params={
                "dtype": recipe.dtype,
                "method": method,
                "gates": gates,
                "shows": list(shows),
            },
            data=("lmi_verify.data",),
        ),
        needs=("reference", *(step.name for step in (*before, *tasks)), "candidate"),
        outputs=("verdict.json",),
    )
    return (*before, *tasks, judge)


def gate_method(recipe: Recipe) -> str:
    """The name under which `gates.json` keeps the limits of a quantisation."""
    quantization = recipe.quantization
    smoothing = quantization.smoothquant
    if quantization.method == "smoothquant" and smoothing is not None and not smoothing.per_token:
        return "smoothquant-static"
    if quantization.method == "fp8" and quantization.kv_cache_dtype == "fp8":
        return "fp8-kv-fp8"
    return quantization.method


def proof_step(request: Mapping[str, JSONValue] | None = None) -> Step:
    """The proof that serving the packaged tree compiles nothing.

    Args:
        request: what the served tree is asked; a short text to go on with when None.
    """
    asked: Mapping[str, JSONValue] = {"prompt": PROOF_PROMPT, "max_new_tokens": _PROOF_TOKENS}
    return Step(
        name="proof",
        run=Call(
            function="lmi_compile.proof.step:run",
            params={
                **(asked if request is None else {"request": dict(request)}),
                "timeout_seconds": _PROOF_TIMEOUT_SECONDS,
            },
            data=("lmi_compile.proof",),
        ),
        needs=("package",),
        outputs=("proof.json",),
    )
