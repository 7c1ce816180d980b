"""`torch_neuronx.trace` and, for Inf1, `torch_neuron.trace`: one artifact for one shape.

The trace runs in a child process of its own, in the toolchain's Python; the call is data in
`request.json`. Signatures: SDK api-torch-neuronx-trace.rst and archive/torch-neuron @ 81ce03ae.
"""

from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.neuron import encoders
from lmi_compile.backends.neuron.ground import Ground
from lmi_compile.backends.neuron.routes import common
from lmi_compile.errors import Unsupported
from lmi_compile.host import installed_version
from lmi_compile.step import Argv, Call, Resources, Step

# The class of the model, by task; ELECTRA's discriminator is its own pretraining head.
_CLASSES = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "image-classification": "AutoModelForImageClassification",
}
_INF1_MATH = ["--fast-math", "fp32-cast-matmult-fp16", "no-fast-relayout"]


def steps(order: Order, ground: Ground) -> tuple[Step, ...]:
    """Fetch, reference, tools, compile, package, candidate, judge, proof."""
    request = trace_request(order, ground)
    return (
        order.model.steps[0],
        _reference_step(request),
        common.tools_step(request),
        _compile_step(order, ground),
        common.package_step(
            order,
            ground,
            needs=("fetch", "tools", "compile"),
            outputs=("model.pt", "code/inference.py"),
            extra={"parameters": encoders.parameter_estimate(ground.config)},
        ),
        common.candidate_step(order, ground, "probe_trace.py"),
        *common.closing_steps(order, ground),
    )


def _reference_step(request: Mapping[str, JSONValue]) -> Step:
    return Step(
        name="reference",
        run=Call(
            function=f"{common.BACKEND}.reference:run",
            params={
                "class": request["model_class"],
                "inputs": request["inputs"],
                "examples": request["examples"],
                "vocab_size": request["vocab_size"],
            },
        ),
        needs=("fetch",),
        outputs=("inputs.npz", "outputs.npz"),
        identity={name: installed_version(name) for name in ("torch", "transformers")},
    )


def _compile_step(order: Order, ground: Ground) -> Step:
    return Step(
        name="compile",
        retry=common.RETRY,
        run=Argv(
            argv=(
                "python",
                "{in:tools}/trace_model.py",
                "--request",
                "{in:tools}/request.json",
                "--model",
                "{in:fetch}",
                "--work",
                "{tmp}/compiler",
                "--out",
                "{out}",
            )
        ),
        env=_env(ground),
        needs=("tools", "fetch"),
        outputs=("model.pt", "trace.json"),
        where="toolchain",
        resources=Resources(memory_bytes=_host_bytes(ground)),
        identity=common.identity(order),
    )


def trace_request(order: Order, ground: Ground) -> dict[str, JSONValue]:
    """The whole trace call, as data: module, arguments, example inputs, the model's class."""
    shapes = order.recipe.shapes
    inputs: list[JSONValue] = list(
        encoders.input_shapes(ground.config, batch=shapes.max_batch_size, length=shapes.max_seq_len)
    )
    return {
        "format": 1,
        "module": "torch_neuron" if ground.route == "trace-inf1" else "torch_neuronx",
        "arguments": trace_arguments(ground),
        "model_class": _model_class(order, ground),
        "inputs": inputs,
        "examples": 4,
        "vocab_size": ground.config.get("vocab_size", 0),
    }


def trace_arguments(ground: Ground) -> dict[str, JSONValue]:
    """Keyword arguments of the trace; the work folder is added where it runs."""
    if ground.route == "trace-inf1":
        math: list[JSONValue] = list(_INF1_MATH)
        return {"compiler_args": math, "fallback": True}
    flags: list[JSONValue] = ["--target", ground.instance.target]
    if encoders.is_text(ground.config):
        flags += ["--model-type", "transformer"]
    flags += ["--auto-cast", "matmult", "--auto-cast-type", "bf16"]
    if ground.instance.lnc > 1:
        flags += ["--lnc", str(ground.instance.lnc)]
    return {"compiler_args": flags, "cpu_backend": True, "inline_weights_to_neff": True}


def _env(ground: Ground) -> dict[str, str]:
    if ground.route == "trace-inf1":
        return {}
    env = common.compiler_env(ground)
    del env["BASE_COMPILE_WORK_DIR"]
    return env


def _model_class(order: Order, ground: Ground) -> str:
    named = ground.config.get("architectures")
    if named == ["ElectraForPreTraining"]:
        return "ElectraForPreTraining"
    task = order.recipe.model.task
    if task not in _CLASSES:
        what = f"task {task} has no model class that is traced"
        raise Unsupported(what, fix=f"tasks that have one: {', '.join(_CLASSES)}")
    return _CLASSES[task]


def _host_bytes(ground: Ground) -> int:
    """Weights in float32 three times over: model, constants of the graph, NEFF; and 2 GiB."""
    return 3 * 4 * encoders.parameter_estimate(ground.config) + (2 << 30)
