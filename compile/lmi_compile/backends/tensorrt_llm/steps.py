"""TensorRT-LLM's plan: checkpoint, engines per rank, verification engine, package, probe, verdict.

Two routes, as the toolchain says: LMI's own partition script (`lmi-script`), or the explicit
commands (`explicit`). Beside them, wherever nvidia-modelopt can make the recipe's checkpoint on a
CPU, `checkpoint` makes it and `checkpoint-judge` judges it before any GPU is paid for.
"""

import json
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.backend import Order
from lmi_compile.backends.tensorrt_llm import build_012, build_020
from lmi_compile.backends.tensorrt_llm.ask import Ask, Limits, limits_of, logits_limits
from lmi_compile.backends.tensorrt_llm.checkpoint_steps import calibration_step, checkpoint_steps
from lmi_compile.backends.tensorrt_llm.convert import checkpoint_argv
from lmi_compile.backends.tensorrt_llm.facts import families
from lmi_compile.backends.tensorrt_llm.partition import build_properties, partition_argv
from lmi_compile.backends.tensorrt_llm.rules import family_of, gpus_of, how_of, refuse
from lmi_compile.common_steps import judge_steps, reference_step
from lmi_compile.errors import Unsupported
from lmi_compile.quantize.cells import Cell, NoCell, cell_for
from lmi_compile.step import Argv, Call, Resources, Step

READS_MODEL = True
_BACKEND = "lmi_compile.backends.tensorrt_llm"
_EXPLAIN = f"{_BACKEND}.failures:explain"
_QUIET = {"HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def steps(order: Order) -> tuple[Step, ...]:
    """The whole way; see the module's first lines."""
    ask = resolve(order)
    refuse(ask)
    ground = _ground_steps(ask)
    calibration = (calibration_step(ask),) if ask.calibrates else ()
    made = cell_for(ask.recipe, ask.config)
    check = checkpoint_steps(ask, made) if isinstance(made, Cell) else ()
    route = (
        _script_steps(ask) if ask.toolchain.route == "lmi-script" else _explicit_steps(ask, made)
    )
    return (
        *order.model.steps,
        reference_step(order.recipe),
        *calibration,
        *check,
        *ground,
        *route,
        _package_step(ask),
        _candidate_step(ask),
        *judge_steps(order.recipe, _method(ask), shows=("likelihoods",)),
        Step(
            name="proof",
            run=Call(function=f"{_BACKEND}.proof:run", params={"layout": ask.how.layout}),
            needs=("package",),
            outputs=("proof.json",),
        ),
    )


def skipped(order: Order) -> Mapping[str, str]:
    """Steps that this recipe cannot have on a CPU, with the reason of each."""
    made = cell_for(order.recipe, order.model.config or order.model.architecture)
    return {"checkpoint": made.reason} if isinstance(made, NoCell) else {}


def preflight(order: Order) -> None:
    """Nothing: the step `ground` holds the place where the engines are built."""
    del order


def serving(order: Order) -> Mapping[str, JSONValue]:
    """The container that loads the engines, and the hardware and versions they are bound to."""
    ask = resolve(order)
    return {
        "contract": f"trtllm-{ask.how.layout}",
        "container": ask.toolchain.to_json()["serves"],
        "hardware": {"sm": ask.gpus.sm, "gpu": ask.gpus.name, "gpus": ask.world},
        "versions": dict(ask.toolchain.versions),
    }


def resolve(order: Order) -> Ask:
    """The order, as TensorRT-LLM's tools need it said.

    Raises:
        Unsupported: the target, the toolchain or the model is not one for TensorRT-LLM.
    """
    config = order.model.config or order.model.architecture
    if config is None:
        what = "the model's config.json is not known before its weights are here"
        raise Unsupported(what, fix="name it in model.config")
    return Ask(
        recipe=order.recipe,
        toolchain=order.toolchain,
        how=how_of(order.toolchain),
        family=families()[family_of(config)],
        config=config,
        gpus=gpus_of(order.recipe),
        limits=limits_of(order.recipe),
    )


def _method(ask: Ask) -> str:
    """The gates' name for the ask's quantisation."""
    smooth = ask.quantization.smoothquant
    method: str = ask.quantization.method
    if smooth is not None and not smooth.per_token:
        method = "smoothquant-static"
    kv = ask.quantization.kv_cache_dtype
    return method if kv == "auto" else f"{method}-kv-{kv}"


def _identity(ask: Ask) -> dict[str, JSONValue]:
    image = ask.toolchain.image
    return {
        "toolchain": ask.toolchain.name,
        "versions": dict(ask.toolchain.versions),
        "image": None if image is None else {"reference": image.reference, "digest": image.digest},
        "simulated": ask.toolchain.simulated,
        "sm": ask.gpus.sm,
        "gpu": ask.gpus.name,
    }


def _gpu(ask: Ask, count: int) -> Resources:
    return Resources(accelerator=ask.gpus.name, accelerator_count=count)


def _ground_steps(ask: Ask) -> tuple[Step, ...]:
    """What is where the engines are built, and whether it is what the toolchain says."""
    expected = {
        "versions": dict(ask.toolchain.versions),
        "sm": ask.gpus.sm,
        "gpus": ask.world,
    }
    return (
        Step(
            name="probe",
            run=Call(
                function=f"{_BACKEND}.probe:run",
                params={"generation": ask.how.generation},
                data=(f"{_BACKEND}.probes",),
            ),
            outputs=("device_report.py", "probe.py"),
        ),
        Step(
            name="ground",
            run=Argv(
                argv=(
                    "python3",
                    "{in:probe}/device_report.py",
                    "{out}/ground.json",
                    json.dumps(expected, sort_keys=True),
                )
            ),
            needs=("probe",),
            outputs=("ground.json",),
            where="device",
            resources=_gpu(ask, ask.world),
            identity=_identity(ask),
            explain=_EXPLAIN,
        ),
    )


def _rank_files(ask: Ask) -> tuple[str, ...]:
    return ("config.json", *(f"rank{rank}.engine" for rank in range(ask.world)))


def _script_steps(ask: Ask) -> tuple[Step, ...]:
    """LMI's own script in its own image; 0.33's runs a second time for the verification engine."""
    flat = ask.how.layout == "flat"
    serving_engine = _partition_steps(ask, "engine", ask.limits, logits=False)
    if flat:
        limits = logits_limits(ask.limits)
        return (*serving_engine, *_partition_steps(ask, "logits-engine", limits, logits=True))
    if ask.family.encoder_decoder or ask.how.scripts is None:
        return serving_engine
    return (
        *serving_engine,
        _foreign_checkpoint_step(ask),
        _build_step(ask, "logits-engine", "convert", logits=True),
    )


def _partition_steps(ask: Ask, name: str, limits: Limits, *, logits: bool) -> tuple[Step, ...]:
    needs = ("calibration",) if ask.calibrates and ask.how.generation == "0.20" else ()
    properties: dict[str, JSONValue] = dict(build_properties(ask, limits, logits=logits))
    return (
        Step(
            name=f"{name}-properties",
            run=Call(
                function=f"{_BACKEND}.properties:run",
                params={"properties": properties},
            ),
            needs=needs,
            outputs=("serving.properties",),
        ),
        Step(
            name=name,
            run=Argv(argv=partition_argv(ask, f"{name}-properties")),
            env=_QUIET if ask.how.generation == "0.20" else {},
            needs=("model", f"{name}-properties", "ground", *needs),
            outputs=_rank_files(ask) if ask.how.layout == "flat" else (),
            where="device",
            resources=_gpu(ask, ask.world),
            identity=_identity(ask),
            explain=_EXPLAIN,
        ),
    )


def _explicit_steps(ask: Ask, made: Cell | NoCell) -> tuple[Step, ...]:
    """The checkpoint, then trtllm-build twice.

    Static SmoothQuant takes the checkpoint that was made and judged on the CPU: TensorRT-LLM's
    own quantize.py has no flag for alpha.
    """
    smooth = ask.quantization.smoothquant
    static = ask.quantization.method == "smoothquant" and smooth and not smooth.per_token
    if static and isinstance(made, NoCell):
        what = f"{ask.recipe.name}: static SmoothQuant is made by modelopt on a CPU"
        raise Unsupported(what, made.reason, "quantization.smoothquant.per_token: true")
    source = "checkpoint" if static else "convert"
    return (
        *(() if static else (_foreign_checkpoint_step(ask),)),
        _build_step(ask, "engine", source, logits=False),
        _build_step(ask, "logits-engine", source, logits=True),
    )


def _foreign_checkpoint_step(ask: Ask) -> Step:
    needs = ("calibration",) if ask.calibrates else ()
    return Step(
        name="convert",
        run=Argv(argv=checkpoint_argv(ask)),
        env=_QUIET,
        needs=("model", "ground", *needs),
        outputs=("config.json", *(f"rank{rank}.safetensors" for rank in range(ask.world))),
        where="device" if ask.calibrates else "toolchain",
        resources=_gpu(ask, ask.world) if ask.calibrates else Resources(),
        identity=_identity(ask),
        explain=_EXPLAIN,
    )


def _build_step(ask: Ask, name: str, checkpoint: str, *, logits: bool) -> Step:
    build = build_012 if ask.how.generation == "0.12" else build_020
    limits = logits_limits(ask.limits) if logits else ask.limits
    return Step(
        name=name,
        run=Argv(argv=build.build_argv(ask, limits, checkpoint, logits=logits)),
        needs=(checkpoint, "ground"),
        outputs=_rank_files(ask),
        where="device",
        resources=_gpu(ask, ask.world),
        identity=_identity(ask),
        explain=_EXPLAIN,
    )


def _package_step(ask: Ask) -> Step:
    runtime: dict[str, JSONValue] = dict(ask.recipe.runtime)
    return Step(
        name="package",
        run=Call(
            function=f"{_BACKEND}.package:run",
            params={
                "layout": ask.how.layout,
                "encoder_decoder": ask.family.encoder_decoder,
                "version": ask.toolchain.versions["tensorrt_llm"],
                "tp_size": ask.tp,
                "pp_size": ask.pp,
                "quant_algo": ask.quant_algo,
                "kv_cache_quant_algo": ask.kv_cache_quant_algo,
                "max_batch_size": ask.limits.max_batch_size,
                "max_input_len": ask.limits.max_input_len,
                "max_seq_len": ask.limits.max_seq_len,
                "max_num_tokens": ask.limits.max_num_tokens,
                "runtime": runtime,
            },
        ),
        needs=("model", "engine"),
        outputs=("package.json",) if ask.how.layout == "engine" else ("serving.properties",),
    )


def _candidate_step(ask: Ask) -> Step:
    """The probe; under mpirun where TensorRT-LLM starts no ranks of its own."""
    has_logits = ask.how.layout != "triton" or (
        ask.how.scripts is not None and not ask.family.encoder_decoder
    )
    probe = (
        "python3",
        "{in:probe}/probe.py",
        *("--engine", "{in:package}"),
        *(("--logits-engine", "{in:logits-engine}") if has_logits else ()),
        *("--prompts", "{in:reference}"),
        *("--out", "{out}"),
        *(("--llm-class", ask.how.llm_class) if ask.how.llm_class else ()),
    )
    ranks = ("mpirun", "-n", str(ask.world), "--allow-run-as-root")
    return Step(
        name="candidate",
        run=Argv(argv=(*ranks, *probe) if ask.how.generation == "0.12" else probe),
        needs=("probe", "package", "reference", *(("logits-engine",) if has_logits else ())),
        outputs=("outputs.json", "outputs.safetensors"),
        where="device",
        resources=_gpu(ask, ask.world),
        identity=_identity(ask),
        explain=_EXPLAIN,
    )
