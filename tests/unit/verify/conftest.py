"""A tiny model, its reference outputs, and candidates made from them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from lmi_verify import judging, reference
from lmi_verify.prompts import load_prompts
from lmi_verify.verdict import Verdict, parse

Arrays = dict[str, np.ndarray]
MakeModel = Callable[..., Path]
Edit = Callable[[Arrays], object]
Judge = Callable[..., Verdict]
Candidate = Callable[..., Path]


@pytest.fixture(scope="session")
def model_dir(make_tiny_llama: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def reference_params() -> Mapping[str, object]:
    return {
        "prompts": "v1",
        "prompts_digest": load_prompts("v1").digest,
        "max_input_len": 96,
        "max_seq_len": 160,
        "forced_tokens": 64,
        "trust_remote_code": False,
    }


@pytest.fixture(scope="session")
def reference_dir(
    model_dir: Path,
    reference_params: Mapping[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("reference")
    reference.run(reference_params, {"model": model_dir}, out)
    return out


@pytest.fixture
def judge(tmp_path: Path, reference_dir: Path) -> Judge:
    """Runs the judge step and reads back the verdict it wrote."""

    def judged(
        candidate: Path,
        *,
        against: Path = reference_dir,
        dtype: str = "float32",
        method: str = "none",
        gates: Mapping[str, float] | None = None,
    ) -> Verdict:
        out = tmp_path / "verdict"
        out.mkdir(exist_ok=True)
        params = {"dtype": dtype, "method": method, "gates": dict(gates or {}), "shows": []}
        judging.run(params, {"reference": against, "candidate": candidate}, out)
        return parse((out / "verdict.json").read_bytes())

    return judged


@pytest.fixture
def edited(tmp_path: Path, reference_dir: Path) -> Candidate:
    """A copy of the reference's outputs with its tensors or its JSON changed."""

    def make(
        tensors: Edit | None = None,
        header: Callable[[dict[str, object]], object] | None = None,
        name: str = "candidate",
        source: Path = reference_dir,
    ) -> Path:
        out = tmp_path / name
        shutil.copytree(source, out)
        if tensors is not None:
            arrays = load_file(out / "outputs.safetensors")
            tensors(arrays)
            save_file(
                {key: np.ascontiguousarray(value) for key, value in arrays.items()},
                out / "outputs.safetensors",
            )
        content = json.loads((out / "outputs.json").read_text())
        if tensors is not None:  # a candidate names no digest of its tensors
            del content["tensors"]
        if header is not None:
            header(content)
        (out / "outputs.json").write_text(json.dumps(content))
        return out

    return make


@pytest.fixture
def recomputed(tmp_path: Path, reference_dir: Path) -> Candidate:
    """An honest candidate: the model run anew, without a cache, in a dtype of choice."""

    def make(model_dir: Path, dtype: torch.dtype = torch.float32) -> Path:
        out = tmp_path / "recomputed"
        shutil.copytree(reference_dir, out)
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype).eval()
        given = load_file(reference_dir / "prompts.safetensors")
        header = json.loads((out / "outputs.json").read_text())
        del header["tensors"]
        eos = json.loads((out / "prompts.json").read_text())["eos_token_ids"]
        made: Arrays = {}
        for index, prompt in enumerate(header["prompts"]):
            name = f"{index:03d}"
            ids, forced = (given[f"{name}.{part}"].tolist() for part in ("input_ids", "forced_ids"))
            logits = _logits(model, ids + forced[:-1])
            made[f"{name}.prompt_logits"] = logits[: len(ids)].copy()
            made[f"{name}.forced_logits"] = logits[len(ids) - 1 :].copy()
            generated = _greedy(model, ids, len(forced), eos)
            made[f"{name}.generated_ids"] = np.array(generated, dtype=np.int64)
            prompt["finish_reason"] = "eos_token" if generated[-1] in eos else "length"
        save_file(made, out / "outputs.safetensors")
        (out / "outputs.json").write_text(json.dumps(header))
        return out

    return make


def _logits(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        rows: np.ndarray = model(input_ids=torch.tensor([ids])).logits[0].float().numpy()
    return rows


def _greedy(model: torch.nn.Module, ids: list[int], limit: int, eos: list[int]) -> list[int]:
    made: list[int] = []
    while len(made) < limit and not (made and made[-1] in eos):
        made.append(int(_logits(model, ids + made)[-1].argmax()))
    return made
