"""Every foreign call of the catalogue is accepted by the simulators, and every change is caught."""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmi_compile.plan import Plan
from lmi_compile.step import Argv, Step
from lmi_recipes.catalog import catalog_names, find_recipe
from lmi_recipes.reading import read_recipe

PlanOf = Callable[..., Plan]
RECIPES = tuple(
    name for name in catalog_names() if read_recipe(find_recipe(name)).recipe.backend == "neuron"
)
VLLM = tuple(name for name in RECIPES if name.endswith("vllm"))  # test_vllm.py
_LANGUAGE = ("llama", "mistral", "mixtral", "qwen")
DECODERS = tuple(name for name in RECIPES if name.startswith(_LANGUAGE) and name not in VLLM)
TRACED = tuple(name for name in RECIPES if name not in {*DECODERS, *VLLM})
_SDK = {"inference_demo": "2.28.0", "partition": "2.20.1", "python": "2.26.1"}
_MODULES = {
    "inference_demo": "neuron_simulator.inference_demo",
    "partition": "neuron_simulator.partition",
    "python": "optimum.exporters.neuron.__main__",
}
# Changes that the real tools take in silence; each is what the package step or nobody can see.
_SILENT = {
    "--enable-bucketing": "one graph of full length serves shorter requests too, only slower",
    "--pad-token-id": "the value is used by the tool's own generation only",
    "--batch-size": "defaults to 1; another value is noticed by the package step",
    "--ctx-batch-size": "defaults to the batch size",
    "--max-context-length": "defaults to the sequence length, which it equals here",
    "--is-continuous-batching": "requests are then served one batch after another",
    "--context-encoding-buckets": "they follow from the lengths",
    "--torch-dtype": "defaults to bfloat16, which it says here",
    "--tensor-parallel-degree": "stands in serving.properties too",
    "--skip-copy": "the tool then copies config files that the package step copies itself",
    "--prompt": "",
    "--logical-nc-config": "NEURON_LOGICAL_NC_CONFIG says it too",
    "--sequence_length": "defaults to 4096, which it says here",
    "--batch_size": "defaults to 1, which it says here",
}


class _World:
    """A model, a machine and the simulators in this process."""

    def __init__(self, folder: Path, step: Step, plan: Plan, monkeypatch: Any) -> None:
        self.folder, self.step, self.plan = folder, step, plan
        self.monkeypatch = monkeypatch
        self.tool = step.run.argv[0]
        (folder / "model").mkdir()
        config = json.dumps(dict(plan.order.model.config or {}))
        (folder / "model" / "config.json").write_text(config)
        cores = plan.order.recipe.tensor_parallel_degree
        machine = {
            "sdk": _SDK[self.tool],
            "devices": cores if step.where == "device" else 0,
            "instance": str(plan.order.recipe.target.instance_type).removeprefix("ml."),
            "fail": None,
        }
        (folder / "machine.json").write_text(json.dumps(machine))
        self._properties()

    def _properties(self) -> None:
        for planned in self.plan.steps:
            if planned.step.name == "properties":
                named = planned.step.run.params["properties"]
                text = "".join(f"{name}={value}\n" for name, value in named.items())
                (self.folder / "properties").mkdir()
                (self.folder / "properties" / "serving.properties").write_text(text)

    def run(self, argv: tuple[str, ...]) -> int:
        """The simulator's exit code; the outputs are made anew."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        filled = [self._fill(part) for part in argv]
        env = {name: self._fill(value) for name, value in self.step.env.items()}
        with self.monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("NEURON_")]:
                patch.delenv(name)
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setenv("NEURON_SIMULATOR_MACHINE", str(self.folder / "machine.json"))
            start = 3 if self.tool == "python" else 1
            try:
                code: int = importlib.import_module(_MODULES[self.tool]).main(filled[start:])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return code

    def whole(self) -> bool:
        """Whether every output of the step is there."""
        return all((self.folder / "out" / name).exists() for name in self.step.outputs)

    def _fill(self, text: str) -> str:
        text = text.replace("{out}", str(self.folder / "out"))
        text = text.replace("{tmp}", str(self.folder / "tmp"))
        for name in ("model", "properties"):
            text = text.replace(f"{{in:{name}}}", str(self.folder / name))
        return text


def _compile_step(plan: Plan) -> Step:
    step = next(planned.step for planned in plan.steps if planned.step.name == "compile")
    assert isinstance(step.run, Argv)
    return step


@pytest.fixture
def world(
    tmp_path: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch, simulators: None
) -> Callable[[str], _World]:
    del simulators

    def make(recipe: str) -> _World:
        for name in [name for name in sys.modules if name.partition(".")[0] == "optimum"]:
            monkeypatch.delitem(sys.modules, name)
        plan = plan_of(recipe)
        return _World(tmp_path, _compile_step(plan), plan, monkeypatch)

    return make


def test_the_catalogue_has_what_was_asked_for() -> None:
    assert (len(DECODERS), len(TRACED), len(VLLM)) == (11, 26, 1)
    for model in ("bert", "electra", "resnet", "roberta", "vit", "qwen", "mistral", "mixtral"):
        assert any(name.startswith(model) for name in RECIPES)


@pytest.mark.parametrize("recipe", DECODERS)
def test_a_catalogue_call_is_accepted_and_writes_its_outputs(
    world: Callable[[str], _World], recipe: str
) -> None:
    here = world(recipe)
    assert here.run(here.step.run.argv) == 0
    assert here.whole()


@pytest.mark.parametrize("recipe", DECODERS)
def test_every_flag_misspelt_is_refused(world: Callable[[str], _World], recipe: str) -> None:
    here = world(recipe)
    argv = here.step.run.argv
    for place, part in enumerate(argv):
        if part.startswith("--"):
            for wrong in (f"{part}x", part[:-1]):
                assert here.run((*argv[:place], wrong, *argv[place + 1 :])) != 0, wrong


@pytest.mark.parametrize("recipe", DECODERS)
def test_every_value_of_another_kind_is_refused(
    world: Callable[[str], _World], recipe: str
) -> None:
    here = world(recipe)
    argv = here.step.run.argv
    free = {"--prompt", "--compiled-model-path", "--save-mp-checkpoint-path", "--engine"}
    changed = 0
    for place, part in enumerate(argv[:-1]):
        value = argv[place + 1]
        if not part.startswith("--") or value.startswith("--") or value == "run" or part in free:
            continue
        if part == "--tensor-parallel-degree":
            continue  # a text in the real parser; its own test is below
        changed += 1
        assert here.run((*argv[: place + 1], "@bogus", *argv[place + 2 :])) != 0, part
        assert here.run((*argv[: place + 1], *argv[place + 2 :])) != 0, f"{part} without its value"
    assert changed >= 2


@pytest.mark.parametrize("recipe", DECODERS)
def test_every_flag_left_out_is_noticed_or_named_as_silent(
    world: Callable[[str], _World], recipe: str
) -> None:
    here = world(recipe)
    argv = here.step.run.argv
    unnoticed = []
    for place, part in enumerate(argv):
        if not part.startswith("--"):
            continue
        taken = 1
        while place + taken < len(argv) and not argv[place + taken].startswith("--"):
            if argv[place + taken] in {"run", "{out}"} and part not in {
                "--compiled-model-path",
                "--save-mp-checkpoint-path",
            }:
                break
            taken += 1
        code = here.run((*argv[:place], *argv[place + taken :]))
        if code == 0 and here.whole() and not _differs(here):
            unnoticed.append(part)
    assert set(unnoticed) <= set(_SILENT), unnoticed


def _differs(here: _World) -> bool:
    """Whether the package step would refuse the outputs as another build's."""
    path = here.folder / "out" / "neuron_config.json"
    if not path.is_file() or here.tool != "inference_demo":
        return False
    built = json.loads(path.read_bytes())["neuron_config"]
    recipe = here.plan.order.recipe
    wanted = {
        "tp_degree": recipe.tensor_parallel_degree,
        "batch_size": recipe.shapes.max_batch_size,
        "seq_len": recipe.shapes.max_seq_len,
        "save_sharded_checkpoint": True,
    }
    return any(built.get(name) != value for name, value in wanted.items())


@pytest.mark.parametrize("recipe", TRACED)
def test_a_catalogue_trace_call_is_accepted(
    plan_of: PlanOf,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulators: None,
) -> None:
    del simulators
    torch = importlib.import_module("torch")
    module, arguments = _trace_call(plan_of(recipe), tmp_path, monkeypatch)
    traced = module.trace(torch.nn.ReLU(), (torch.ones(2),), **arguments)
    assert torch.equal(traced(torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("recipe", ["bert-large-inf1-b1-s128", "bert-large-inf2-b1-s128"])
def test_every_changed_trace_call_is_refused(
    plan_of: PlanOf,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulators: None,
) -> None:
    del simulators
    torch = importlib.import_module("torch")
    module, arguments = _trace_call(plan_of(recipe), tmp_path, monkeypatch)
    flags = arguments["compiler_args"]
    changed = [
        {**arguments, "compiler_arguments": flags},
        {**arguments, "compiler_args": [*flags, "--x"]},
    ]
    for place, flag in enumerate(flags):
        wrong = [*flags[:place], f"{flag}x", *flags[place + 1 :]]
        changed.append({**arguments, "compiler_args": wrong})
    for call in changed:
        with pytest.raises((SystemExit, TypeError, ValueError)):
            module.trace(torch.nn.ReLU(), (torch.ones(2),), **call)


def test_auto_cast_is_always_written(plan_of: PlanOf) -> None:
    for recipe in TRACED:
        step = next(each.step for each in plan_of(recipe).steps if each.step.name == "tools")
        flags = step.run.params["request"]["arguments"]["compiler_args"]
        assert ("--auto-cast" in flags) != ("--fast-math" in flags)


def _trace_call(plan: Plan, folder: Path, monkeypatch: Any) -> tuple[Any, dict[str, Any]]:
    step = next(each.step for each in plan.steps if each.step.name == "tools")
    request = step.run.params["request"]
    machine = {"sdk": "2.28.0", "devices": 0, "instance": "inf2.xlarge", "fail": None}
    (folder / "machine.json").write_text(json.dumps(machine))
    monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(folder / "machine.json"))
    for name in ("torch_neuronx", "torch_neuron"):
        sys.modules.pop(name, None)
    return importlib.import_module(request["module"]), dict(request["arguments"])
