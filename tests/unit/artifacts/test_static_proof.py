"""Every rule of the static proof has a tree that breaks it, and is named when it does."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lmi_artifacts.decisions import decide
from lmi_artifacts.images import Image, find_image, images
from lmi_artifacts.properties import format_properties
from lmi_artifacts.releases import releases
from lmi_artifacts.static_proof import CONTRACTS, guess_contract, newest_image, prove_static
from lmi_artifacts.static_rules import RULES, rules_of

PYTHON = {
    "engine": "Python",
    "option.entryPoint": "model.py",
    "option.rolling_batch": "disable",
    "option.async_mode": "false",
    "minWorkers": "1",
    "maxWorkers": "1",
}
FLAT = {
    "engine": "Python",
    "option.entryPoint": "djl_python.lmi_trtllm.trtllm_async_service",
    "option.async_mode": "true",
    "option.rolling_batch": "disable",
    "option.tensor_parallel_degree": "2",
    "option.pipeline_parallel_degree": "1",
    "option.pipeline_parallel_size": "1",
}
TRITON = {
    "engine": "MPI",
    "option.rolling_batch": "trtllm",
    "option.tensor_parallel_degree": "2",
    "option.pipeline_parallel_degree": "1",
}
NEURON = {
    "engine": "Python",
    "option.entryPoint": "djl_python.transformers_neuronx",
    "option.context_length_estimate": "32",
    "option.dtype": "fp16",
    "option.max_rolling_batch_size": "2",
    "option.n_positions": "64",
    "option.rolling_batch": "disable",
    "option.tensor_parallel_degree": "2",
}
OF = {
    "djl-python": PYTHON,
    "trtllm-flat": FLAT,
    "trtllm-triton": TRITON,
    "neuron-lmi": NEURON,
}
MAPPING = {"pretrained_config": {"mapping": {"world_size": 2, "tp_size": 2}}, "build_config": {}}


def write(tree: Path, properties: Mapping[str, str | None]) -> None:
    kept = {key: value for key, value in properties.items() if value is not None}
    (tree / "serving.properties").write_bytes(format_properties(kept))


def make(tree: Path, contract: str) -> Path:
    write(tree, OF[contract])
    if contract == "djl-python":
        (tree / "model.py").write_text("def handle(inputs):\n    return None\n")
    elif contract == "neuron-lmi":
        (tree / "config.json").write_text(json.dumps({"neuron": {"num_cores": 2}}))
        (tree / "compiled").mkdir()
        (tree / "compiled" / f"{'0a' * 10}.neff").write_bytes(b"n")
        (tree / "compiled" / "a.safetensors").write_bytes(b"s")
    else:
        folder = tree if contract == "trtllm-flat" else tree / "model" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(MAPPING))
        for rank in range(2):
            (folder / f"rank{rank}.engine").write_bytes(b"e")
        if contract == "trtllm-triton":
            (tree / "model" / "config.pbtxt").write_text("")
            (tree / "model" / "tokenizer_config.json").write_text("{}")
    return tree


def broken(
    tree: Path, contract: str, image: Image | None = None, accelerators: int = 0
) -> set[str]:
    proof = prove_static(tree, contract, image or newest_image(contract), accelerators)
    assert (proof.to_json()["decision"] == "REFUTED") == bool(proof.broken)
    return {one.rule for one in proof.broken}


@pytest.mark.parametrize("contract", OF)
def test_a_good_tree_breaks_no_rule(tmp_path: Path, contract: str) -> None:
    tree = make(tmp_path, contract)
    assert guess_contract(tree) == contract
    proof = prove_static(tree, contract, newest_image(contract))
    assert proof.broken == ()
    assert proof.decision is not None
    assert proof.decision.compiles is None
    assert set(RULES) <= set(proof.checked)


@pytest.mark.parametrize("contract", OF)
def test_every_release_of_its_flavour_takes_a_good_tree(tmp_path: Path, contract: str) -> None:
    tree = make(tmp_path, contract)
    newest = newest_image(contract)
    assert newest is not None
    fitting = [
        image
        for image in images()
        if image.flavour == newest.flavour
        and (contract != "trtllm-triton" or releases()[image.minor].engines == "triton")
        and (contract != "trtllm-flat" or releases()[image.minor].engines == "flat")
        and not (contract == "neuron-lmi" and image.minor < 28)  # no such keys before
    ]
    assert fitting
    for image in fitting:
        assert broken(tree, contract, image) == set(), image.tag


PROPERTIES = [
    # contract, image, changed properties, rule
    ("djl-python", None, {"engine": None}, "engine"),
    ("djl-python", None, {"engine": "OnnxRuntime"}, "jit"),
    ("djl-python", None, {"option.rolling_batch": "scheduler"}, "rolling-batch"),
    ("djl-python", None, {"option.rolling_batch": "vllm", "option.async_mode": "true"},
     "exclusive"),
    ("djl-python", None, {"option.rolling_batch": "vllm", "batch_size": "4"}, "exclusive"),
    ("djl-python", None, {"option.parallel_loading": "True"}, "booleans"),
    ("djl-python", None, {"option.tensor_parallel_degree": "two"}, "integers"),
    ("djl-python", None, {"option.predict_timeout": "60s"}, "integers"),
    ("djl-python", None, {"min_workers": "1"}, "server-keys"),
    ("djl-python", None, {"option.entryPoint": "https://x/model.py"}, "downloads"),
    ("djl-python", None, {"option.enable_venv": "true"}, "downloads"),
    ("djl-python", None, {"option.model_id": "gpt2"}, "downloads"),
    ("djl-python", None, {"option.model_id": "s3://b/p/"}, "downloads"),
    ("djl-python", None, {"option.entryPoint": None}, "decides-by-itself"),
    ("djl-python", "0.33.0-tensorrtllm0.21.0-cu128", {}, "jit"),
    ("trtllm-flat", None, {"option.rolling_batch": "trtllm"}, "rolling-batch"),
    ("trtllm-flat", None, {"option.quantize": "smoothquant"}, "option-keys"),
    ("trtllm-flat", None, {"option.rotary_base": "10000"}, "option-keys"),
    ("trtllm-flat", None, {"option.output_formatter": "xml"}, "option-values"),
    ("trtllm-flat", None, {"option.entryPoint": "djl_python.huggingface"}, "handler"),
    ("trtllm-flat", None, {"option.async_mode": "false"}, "handler"),
    ("trtllm-flat", None, {"option.pipeline_parallel_degree": "2"}, "pipeline"),
    ("trtllm-flat", None, {"option.tensor_parallel_degree": "4"}, "trtllm-engines"),
    ("trtllm-flat", "0.32.0-tensorrtllm0.12.0-cu125", {}, "image"),
    ("trtllm-flat", "0.36.0-lmi27.0.0-cu130", {}, "image"),
    ("trtllm-triton", "0.26.0-tensorrtllm0.7.1-cu122", {"option.rolling_batch": "disable"},
     "rolling-batch"),
    ("trtllm-triton", "0.33.0-tensorrtllm0.21.0-cu128", {}, "jit"),
    ("neuron-lmi", None, {"option.model_loader": "nxdi"}, "option-values"),
    ("neuron-lmi", None, {"option.kv_cache_dtype": "fp8"}, "option-keys"),
    ("neuron-lmi", "0.36.0-cpu-full", {}, "image"),
    ("neuron-lmi", None, {"option.n_positions": None}, "neuron-lmi"),
]  # fmt: skip


@pytest.mark.parametrize(("contract", "tag", "changes", "rule"), PROPERTIES)
def test_properties_that_break_a_rule(
    tmp_path: Path, contract: str, tag: str | None, changes: dict[str, str | None], rule: str
) -> None:
    tree = make(tmp_path, contract)
    write(tree, {**OF[contract], **changes})
    image = None if tag is None else find_image(tag)
    assert rule in broken(tree, contract, image)


def _without(name: str) -> Callable[[Path], None]:
    return lambda tree: (tree / name).unlink()


def _with(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda tree: (tree / name).write_bytes(content) and None


FILES = [
    ("djl-python", _without("serving.properties"), "properties-readers"),
    ("djl-python", _with("serving.properties", b"engine=Py\\\n thon\n"), "properties-readers"),
    ("djl-python", _with("serving.properties", "engine=P\u00fcthon\n".encode()),
     "properties-readers"),
    ("djl-python", _with("serving.properties", b"engine:Python\n"), "properties-readers"),
    ("djl-python", _with("serving.properties", b"option.async_mode=true \n"), "booleans"),
    ("djl-python", _with("model.py", b"async def handle(inputs): ...\n"), "entry-point"),
    ("djl-python", _with("config.json", b"{}"), "recommender-files"),
    ("djl-python", _with("requirements.txt", b"torch\n"), "requirements"),
    ("trtllm-flat", _with("requirements.txt", b"torch\n"), "requirements"),
    ("djl-python", _with("x.pkl", b""), "pickles"),
    ("djl-python", _with("x" * 200, b""), "file-names"),
    ("trtllm-flat", _without("rank1.engine"), "trtllm-engines"),
    ("trtllm-flat", _with("rank0.engine", b""), "trtllm-engines"),
    ("trtllm-flat", _with("config.json", b'{"architectures": ["LlamaForCausalLM"]}'), "jit"),
    ("trtllm-flat", _with("config.json", b"not JSON"), "jit"),
    ("trtllm-triton", _without("model/tokenizer_config.json"), "jit"),
    ("trtllm-triton", _without("model/config.pbtxt"), "trtllm-engines"),
    ("neuron-lmi", _without(f"compiled/{'0a' * 10}.neff"), "neuron-lmi"),
]  # fmt: skip


@pytest.mark.parametrize(("contract", "damage", "rule"), FILES)
def test_files_that_break_a_rule(
    tmp_path: Path, contract: str, damage: Callable[[Path], None], rule: str
) -> None:
    tree = tmp_path / ("d" * 60)
    tree.mkdir()
    make(tree, contract)
    if rule == "file-names":
        (tree / ("y" * 100)).mkdir()
        (tree / ("y" * 100) / ("x" * 200)).write_bytes(b"")
    else:
        damage(tree)
    assert rule in broken(tree, contract)


def test_every_rule_has_a_tree_that_breaks_it() -> None:
    named = {rule for *_, rule in PROPERTIES} | {rule for *_, rule in FILES}
    named |= {"properties-values"}  # tests/unit/artifacts/test_container.py, value by value
    assert named >= {rule for contract in OF for rule in rules_of(contract)}


HF = json.dumps({"architectures": ["LlamaForCausalLM"]})


@pytest.mark.parametrize(
    ("tag", "properties", "wanted"),
    [
        ("0.36.0-lmi27.0.0-cu130", {},
         ("djl_python.lmi_vllm.vllm_async_service", "disable", True, 8)),
        ("0.35.0-lmi17.0.0-cu128", {"option.async_mode": "false", "option.rolling_batch": "vllm"},
         ("djl_python.huggingface", "vllm", False, 8)),
        ("0.33.0-lmi15.0.0-cu128", {}, ("djl_python.lmi_vllm.vllm_async_service", "vllm", True, 8)),
        ("0.30.0-lmi12.0.0-cu124", {}, ("djl_python.huggingface", "lmi-dist", False, 8)),
        ("0.30.0-neuronx-sdk2.20.1", {"option.tensor_parallel_degree": "max"},
         ("djl_python.transformers_neuronx", "tnx", False, 8)),
        ("0.30.0-tensorrtllm0.12.0-cu125", {"option.tensor_parallel_degree": "2"},
         ("djl_python.tensorrt_llm", "trtllm", False, 2)),
        ("0.36.0-cpu-full", {}, ("djl_python.huggingface", "disable", False, 8)),
    ],
)  # fmt: skip
def test_what_a_container_decides_by_itself(
    tmp_path: Path, tag: str, properties: dict[str, str], wanted: tuple[str, str, bool, int]
) -> None:
    (tmp_path / "config.json").write_text(HF)
    image = find_image(tag)
    assert image is not None
    made = decide(tmp_path, {"engine": "Python", **properties}, image, 8)
    found = (made.entry_point, made.rolling_batch, made.async_mode, made.tensor_parallel_degree)
    assert found == wanted
    assert (made.compiles is not None) == (image.flavour == "tensorrtllm")


def test_the_pytorch_backend_compiles_no_engines_from_33_on(tmp_path: Path) -> None:
    newest = find_image("0.33.0-tensorrtllm0.21.0-cu128")
    assert newest is not None
    assert decide(tmp_path, {"option.backend": "pytorch"}, newest, 1).compiles is None
    assert decide(tmp_path, {}, newest, 1).compiles is not None


def test_contracts_are_known_by_their_files(tmp_path: Path) -> None:
    assert guess_contract(tmp_path) == "djl-python"
    (tmp_path / "rank0.engine").write_bytes(b"e")
    assert guess_contract(tmp_path) == "trtllm-engine"
    assert newest_image("neuron-nxdi") is None
    with pytest.raises(ValueError, match="djl-python"):
        prove_static(tmp_path, "nobody", None)
    assert "trtllm-engines" in broken(tmp_path, "trtllm-engine")
    assert set(OF) < set(CONTRACTS)
