"""The traced route for real: the CPU in the compiler's place, everything else as it is shipped.

The simulator's `trace` checks the call and hands it to torch.jit.trace, so wrapper, package, probe,
handler and judge work on true numbers. What this cannot show is a NEFF.
"""

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmi_artifacts.errors import PublishFailed
from lmi_artifacts.neuron_container import recognise
from lmi_artifacts.registry import open_registry
from lmi_artifacts.statement import VERDICT
from lmi_compile.backends.neuron import judging, reference
from lmi_compile.errors import ModelFault, ToolFailed
from lmi_compile.pipeline import Build, build, run_until
from lmi_compile.plan import Plan
from lmi_compile.publishing import publish

pytestmark = [
    pytest.mark.slow,  # every build starts PyTorch in three processes
    pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning"),
]
ROOT = Path(__file__).parents[4]
TASKS = {
    "bert": "fill-mask",
    "electra": "feature-extraction",
    "roberta": "fill-mask",
    "resnet": "image-classification",
    "vit": "image-classification",
}
RECIPE = """
apiVersion: lmi-compile/v1
name: tiny-{kind}
model: {{id: ./model, task: {task}}}
backend: neuron
toolchain: {toolchain}
target: {{instance_type: {instance}}}
shapes: {{max_batch_size: {batch}, max_input_len: 16, max_seq_len: 16}}
"""


def _fixture() -> Any:
    path = ROOT / "tests" / "fixtures" / "tiny_encoders.py"
    spec = importlib.util.spec_from_file_location("tiny_encoders", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _recipe(kind: str, *, inf1: bool = False, batch: int = 2) -> str:
    return RECIPE.format(
        kind=kind,
        task=TASKS[kind],
        toolchain="sim-neuron-inf1" if inf1 else "sim-neuron-trace-2.28",
        instance="ml.inf1.xlarge" if inf1 else "ml.inf2.xlarge",
        batch=batch,
    )


@dataclass(frozen=True, kw_only=True)
class Built:
    """A whole build of a small encoder."""

    kind: str
    world: Any
    plan: Plan
    done: Build

    @property
    def tree(self) -> Path:
        return self.world.out(self.plan, "package")

    def model(self) -> torch.nn.Module:
        """The Hugging Face model itself."""
        params = next(s.step.run.params for s in self.plan.steps if s.step.name == "reference")
        return reference._load(self.world.home / "model", str(params["class"]))


@pytest.fixture(scope="module")
def built(make_world: Callable[..., Any]) -> Callable[[str, bool], Built]:
    known: dict[tuple[str, bool], Built] = {}

    def get(kind: str, inf1: bool) -> Built:  # noqa: FBT001 - two words of one key
        if (kind, inf1) not in known:
            world = make_world(sdk="inf1" if inf1 else "2.28.0", instance="inf2.xlarge")
            _fixture().make_encoder(world.home / "model", kind)
            plan = world.plan(_recipe(kind, inf1=inf1))
            known[kind, inf1] = Built(
                kind=kind, world=world, plan=plan, done=build(plan, world.tools)
            )
        return known[kind, inf1]

    return get


@pytest.fixture
def handler(
    monkeypatch: pytest.MonkeyPatch, make_world: Callable[..., Any]
) -> Callable[[Path], Any]:
    """The tree's own inference.py, in this process, with the simulator's runtime package."""
    world = make_world(instance="inf2.xlarge")
    monkeypatch.setenv("NEURON_SIMULATOR_MACHINE", str(world.home / "bin" / "machine.json"))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "simulators" / "neuron" / "site"))

    def load(tree: Path) -> Any:
        path = tree / "code" / "inference.py"
        spec = importlib.util.spec_from_file_location("inference", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


# Whole builds of the others are like these two's: `make families`.
ALIKE = {"roberta", "vit"}
KINDS = [
    pytest.param(kind, marks=[pytest.mark.families] if kind in ALIKE else []) for kind in TASKS
]
CASES = [
    *(pytest.param(*kind.values, False, marks=kind.marks) for kind in KINDS),
    ("bert", True),
]


@pytest.mark.parametrize(("kind", "inf1"), CASES)
def test_a_small_model_goes_all_the_way(
    built: Callable[[str, bool], Built],
    kind: str,
    inf1: bool,  # noqa: FBT001
) -> None:
    made = built(kind, inf1)
    assert made.done.decision == "ACCEPT"
    assert made.done.proof == "SKIPPED"
    values = {check["metric"]: check["measured"] for check in made.done.verdict["checks"]}
    assert values["argmax_agreement"] == 1.0
    if not inf1:
        assert values["max_error_rel"] < 1e-5
    assert made.done.artifact is not None
    statements = made.world.registry.statements(made.done.artifact)
    verdict = next(each.predicate for each in statements if each.predicate_type == VERDICT)
    assert verdict["verified_on_device"] is False
    manifest = made.world.registry.manifest(made.done.artifact)
    assert manifest.simulated
    assert manifest.serving["contract"] == "neuron-torchscript"


def test_a_simulated_artifact_is_refused_by_an_ordinary_registry(
    built: Callable[[str, bool], Built], tmp_path: Path
) -> None:
    made = built("bert", False)  # noqa: FBT003
    ordinary = open_registry(str(tmp_path / "registry"))
    tools = type(made.world.tools)(
        workspace=made.world.tools.workspace,
        execute=made.world.tools.execute,
        registry=ordinary,
        emit=lambda _: None,
    )
    with pytest.raises(PublishFailed, match="a simulator made it"):
        publish(made.plan, made.tree, {VERDICT: made.done.verdict}, tools)


@pytest.mark.parametrize("kind", KINDS)
def test_the_handler_answers_as_the_model_does(
    built: Callable[[str, bool], Built], handler: Callable[[Path], Any], kind: str
) -> None:
    made = built(kind, False)  # noqa: FBT003
    served = handler(made.tree)
    loaded = served.model_fn(str(made.tree))
    request = made.world.out(made.plan, "compile") / "trace.json"
    specs = json.loads(request.read_bytes())["inputs"]
    example = reference.make_example(specs, index=7, vocab=120)
    body = json.dumps({name: tensor.tolist() for name, tensor in example.items()})
    answer, content_type = served.output_fn(
        served.predict_fn(served.input_fn(body, "application/json"), loaded)
    )
    assert content_type == "application/json"
    with torch.no_grad():
        expected = made.model()(**example, return_dict=False)[0]
    assert np.allclose(json.loads(answer)["outputs"][0], expected.numpy(), atol=1e-4)


def test_a_shorter_request_is_filled_up_and_a_longer_one_refused(
    built: Callable[[str, bool], Built], handler: Callable[[Path], Any]
) -> None:
    made = built("bert", False)  # noqa: FBT003
    served = handler(made.tree)
    loaded = served.model_fn(str(made.tree))
    ids = [5, 6, 7, 8, 9]
    (logits,) = served.predict_fn({"input_ids": [ids]}, loaded)
    assert logits.shape == (1, 16, 120)
    with torch.no_grad():
        expected = made.model()(input_ids=torch.tensor([ids]), return_dict=False)[0]
    assert torch.allclose(logits[:, : len(ids)], expected, atol=1e-4)
    refused = [
        ({"input_ids": [[1] * 17]}, "shape"),
        ({"input_ids": [[1]] * 3}, "has 3 rows; this graph takes 2"),
        ({"pixel_values": [[1.0]]}, "a request holds input_ids"),
        ({"inputs": "text"}, "no tokenizer"),
        ({"input_ids": [["a"]]}, "rows of numbers"),
    ]
    for asked, words in refused:
        with pytest.raises(served.RequestRefused, match=words):
            served.predict_fn(asked, loaded)
    for body, kind in (("[1]", "application/json"), ("{", "application/json"), ("a", "text/csv")):
        with pytest.raises(served.RequestRefused):
            served.input_fn(body, kind)


def test_other_weights_in_the_tree_are_a_regression(
    built: Callable[[str, bool], Built], tmp_path: Path
) -> None:
    made = built("electra", False)  # noqa: FBT003
    right = made.world.out(made.plan, "reference")
    shutil.copytree(made.world.out(made.plan, "candidate"), tmp_path / "candidate")
    with np.load(tmp_path / "candidate" / "outputs.npz") as found:
        outputs = dict(found)
    np.savez(
        tmp_path / "candidate" / "outputs.npz",
        **{name: value * 1.2 + 0.3 for name, value in outputs.items()},
    )
    params = next(s.step.run.params for s in made.plan.steps if s.step.name == "judge")
    judging.run(params, {"reference": right, "candidate": tmp_path / "candidate"}, tmp_path)
    verdict = json.loads((tmp_path / "verdict.json").read_bytes())
    assert verdict["decision"] == "REGRESSION"
    np.savez(tmp_path / "candidate" / "outputs.npz", **{"000.0": outputs["000.0"]})
    judging.run(params, {"reference": right, "candidate": tmp_path / "candidate"}, tmp_path)
    assert json.loads((tmp_path / "verdict.json").read_bytes())["decision"] == "INFEASIBLE"
    broken = {name: value * np.nan for name, value in outputs.items()}
    np.savez(tmp_path / "candidate" / "outputs.npz", **broken)
    judging.run(params, {"reference": right, "candidate": tmp_path / "candidate"}, tmp_path)
    assert json.loads((tmp_path / "verdict.json").read_bytes())["decision"] == "ANOMALOUS"


def test_a_probe_without_a_device_leaves_it_unverified(
    built: Callable[[str, bool], Built], tmp_path: Path
) -> None:
    made = built("bert", False)  # noqa: FBT003
    told = {"format": 1, "devices": [], "ran": False, "reason": "no Neuron device is here"}
    (tmp_path / "outputs.json").write_text(json.dumps(told))
    params = next(s.step.run.params for s in made.plan.steps if s.step.name == "judge")
    inputs = {"reference": made.world.out(made.plan, "reference"), "candidate": tmp_path}
    judging.run(params, inputs, tmp_path)
    verdict = json.loads((tmp_path / "verdict.json").read_bytes())
    assert (verdict["decision"], verdict["verified_on_device"]) == ("UNVERIFIED", False)


def test_a_model_without_its_head_is_refused(make_world: Callable[..., Any]) -> None:
    world = make_world(instance="inf2.xlarge")
    _fixture().make_encoder(world.home / "model", "bert")
    plan = world.plan(_recipe("bert"), "model.task=question-answering")
    with pytest.raises(ModelFault, match="no weights for AutoModelForQuestionAnswering"):
        run_until(plan, "reference", world.tools)
    with pytest.raises(ToolFailed) as caught:
        run_until(plan, "compile", world.tools)
    assert "no weights for AutoModelForQuestionAnswering" in caught.value.why


def test_a_compiler_that_dies_is_told_with_its_own_words(make_world: Callable[..., Any]) -> None:
    world = make_world(instance="inf2.xlarge", fail="killed")
    _fixture().make_encoder(world.home / "model", "resnet")
    plan = world.plan(_recipe("resnet"))
    with pytest.raises(ToolFailed) as caught:
        run_until(plan, "compile", world.tools)
    assert "failed with -9" in caught.value.why
    assert world.tools.workspace.find(plan.keys["compile"]) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tree: (tree / "model.pt").unlink(), "model.pt: is missing"),
        (lambda tree: (tree / "model.pt").write_bytes(b"no archive"), "no TorchScript archive"),
        (lambda tree: shutil.rmtree(tree / "code"), "code/inference.py: is missing"),
        (
            lambda tree: (tree / "code" / "inference.py").write_text("def model_fn(d): ..."),
            "defines no predict_fn",
        ),
        (lambda tree: (tree / "lmi-neuron.json").write_text("{}"), "no trace module"),
        (lambda tree: (tree / "weights.bin").write_bytes(b""), "named like a pickle"),
    ],
)
def test_the_containers_recogniser_refuses_a_damaged_tree(
    built: Callable[[str, bool], Built], tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    made = built("bert", False)  # noqa: FBT003
    tree = Path(shutil.copytree(made.tree, tmp_path / "tree"))
    assert recognise("neuron-torchscript", tree) == ()
    damage(tree)
    assert any(words in problem for problem in recognise("neuron-torchscript", tree))
