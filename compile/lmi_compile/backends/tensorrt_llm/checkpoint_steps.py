"""The steps on a CPU: calibration data, the checkpoint by nvidia-modelopt, and its verdict."""

from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.tensorrt_llm.ask import Ask
from lmi_compile.errors import Unsupported
from lmi_compile.host import installed_version, read_host
from lmi_compile.quantize.calibration import BUILT_IN
from lmi_compile.quantize.cells import Cell
from lmi_compile.quantize.modelopt_version import VERSION
from lmi_compile.step import Call, Step
from lmi_verify.gates import gates_for

_WINDOWS = 8  # of 256 tokens, as many as the gates were measured on


def calibration_step(ask: Ask) -> Step:
    """The calibration data, as the one local directory that every version accepts."""
    calibration = ask.quantization.calibration
    assert calibration is not None  # noqa: S101 - recipes give it a default where it is needed
    dataset = calibration.dataset
    params: dict[str, JSONValue] = {
        "dataset": dataset,
        "num_samples": calibration.num_samples,
        "max_seq_len": calibration.max_seq_len,
    }
    local: dict[str, str] = {}
    if dataset.startswith(("/", "~")):
        directory = Path(dataset).expanduser()
        params |= {"dataset": "directory", "files": _digests_of(directory)}
        local["dataset"] = str(directory)
    return Step(
        name="calibration",
        run=Call(function="lmi_compile.quantize.calibration:run", params=params),
        outputs=("lambada/train.jsonl", "lambada/validation.jsonl"),
        identity={"python": read_host().python} if dataset == BUILT_IN else {},
        local_inputs=local,
    )


def _digests_of(directory: Path) -> dict[str, JSONValue]:
    from lmi_artifacts.digest import digest_file  # noqa: PLC0415 - only a local data set needs it

    if not directory.is_dir():
        what = f"calibration data set {directory} is not a directory"
        raise Unsupported(what, fix="name a directory with *.jsonl or *.txt files")
    found = sorted(each for each in directory.iterdir() if each.suffix in {".jsonl", ".txt"})
    return {each.name: str(digest_file(each)) for each in found}


def checkpoint_steps(ask: Ask, cell: Cell) -> tuple[Step, ...]:
    """The checkpoint made and judged on a CPU."""
    calibration = ask.quantization.calibration
    smooth = ask.quantization.smoothquant
    params: dict[str, JSONValue] = {
        **cell.to_json(),
        "alpha": smooth.alpha if smooth else None,
        "dtype": ask.recipe.dtype,
        "tp_size": ask.tp,
        "num_samples": calibration.num_samples if calibration else 0,
        "max_seq_len": calibration.max_seq_len if calibration else 0,
    }
    made = Step(
        name="checkpoint",
        run=Call(
            function="lmi_compile.quantize.modelopt:run",
            params=params,
            data=("lmi_compile.quantize",),
        ),
        needs=("model", "calibration") if ask.calibrates else ("model",),
        outputs=("config.json", *(f"rank{rank}.safetensors" for rank in range(ask.tp))),
        identity={**_libraries(), "modelopt": VERSION},
    )
    return (made, *_verdict_steps(ask, cell))


def _libraries() -> dict[str, JSONValue]:
    return {name: installed_version(name) for name in ("torch", "transformers")}


def _verdict_steps(ask: Ask, cell: Cell) -> tuple[Step, ...]:
    gates: Mapping[str, JSONValue] = dict(ask.recipe.verify.gates)
    gates_for(ask.recipe.dtype, cell.method, gates)
    return (
        Step(
            name="checkpoint-reference",
            run=Call(
                function="lmi_compile.quantize.evaluation:run",
                params={
                    "trust_remote_code": ask.recipe.model.trust_remote_code,
                    "windows": _WINDOWS,
                },
            ),
            needs=("model",),
            outputs=("prompts.json", "prompts.safetensors", "outputs.json", "outputs.safetensors"),
            identity={**_libraries(), "python": read_host().python},
        ),
        Step(
            name="checkpoint-candidate",
            run=Call(
                function="lmi_compile.quantize.candidate:run",
                params={"format": cell.format},
                data=("lmi_compile.quantize.data",),
            ),
            needs=("checkpoint", "model", "checkpoint-reference"),
            outputs=("outputs.json", "outputs.safetensors", "checkpoint.json"),
            identity=_libraries(),
        ),
        Step(
            name="checkpoint-judge",
            run=Call(
                function="lmi_compile.quantize.judging:run",
                params={
                    "dtype": ask.recipe.dtype,
                    "method": cell.method,
                    "gates": gates,
                    "shows": [],
                },
                data=("lmi_verify.data",),
            ),
            needs=("checkpoint-reference", "checkpoint-candidate"),
            outputs=("verdict.json",),
        ),
    )
