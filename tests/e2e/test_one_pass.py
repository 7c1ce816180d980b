"""Encoders and image classifiers through the whole flow: built, judged, proven, served both ways.

One kind a run, another for each commit; `make families` has them all.
"""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lmi import Lmi
from one_pass import KINDS, MOST_TOKENS, OnePassKind, write_recipe
from served import Served, serving
from turn import turn_of_this_commit

from lmi_verify.one_pass.reference import drawn

pytestmark = pytest.mark.slow
WORKER = Path(__file__).parents[1] / "simulators" / "djl_python_simulator" / "worker.py"
_TURN = KINDS[turn_of_this_commit(len(KINDS))]
_MARKED = [
    pytest.param(kind, marks=[] if kind is _TURN else pytest.mark.families, id=kind.name)
    for kind in KINDS
]
_GATES = {
    "image-classification": {"output_error_rel", "kl_max", "top1_margin", "pixel_error"},
    "feature-extraction": {"output_error_rel", "token_mismatches"},
}
_TEXT_GATES = {"output_error_rel", "kl_max", "top1_margin", "token_mismatches"}


def _serve(tree: Path, bodies: list[object]) -> list[tuple[int, Any]]:
    """What a djl-serving worker answers; its tree is read-only to it."""
    ended = subprocess.run(
        [sys.executable, str(WORKER), str(tree)],
        input=json.dumps([json.dumps(body) for body in bodies]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    report = json.loads(ended.stdout)
    assert report["outputs"][0]["code"] == 204
    foreign = ("torch._dynamo", "torch._inductor", "transformers", "sympy", "lmi_compile")
    assert not [name for name in report["modules"] if name.startswith(foreign)]
    return [(each["code"], json.loads(each["body"])) for each in report["outputs"][1:]]


@pytest.mark.parametrize("kind", _MARKED)
def test_it_is_built_judged_proven_and_served(kind: OnePassKind, lmi: Lmi, tmp_path: Path) -> None:
    recipe = write_recipe(lmi.home, kind)
    ended = lmi(recipe.name, "--json")
    assert ended.code == 0, ended.err
    built = ended.json()
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")
    tree = Path(built["path"])
    assert not (tree / "config.json").exists()
    shown = lmi("show", built["artifact"], "--json").json()
    (verdict,) = [s["predicate"] for s in shown["statements"] if ":verdict:" in s["predicateType"]]
    checks = {check["metric"]: check for check in verdict["checks"]}
    expected = _GATES.get(kind.task, _TEXT_GATES)
    assert set(checks) == expected | ({"batch_error_rel"} if kind.batch > 1 else set())
    assert 0 < checks["output_error_rel"]["measured"] <= 1e-4
    asked, told = _answers_like_its_model(kind, tree, lmi.home / "model")
    with serving(tree, home=tmp_path) as server:
        for path in ("/invocations", "/endpoints/any/invocations"):
            assert server.post(path, {"inputs": asked}).json() == told
        if kind.pixels is not None:
            picture = server.post("/invocations", drawn(0), **{"Content-Type": "image/png"})
            assert picture.json() == [told]
        assert server.post("/v1/completions", {"prompt": "x"}).status == 404
        _refuses_in_words(kind, server)
    again = lmi(recipe.name, "--json").json()
    assert again["cached"]


def _answers_like_its_model(kind: OnePassKind, tree: Path, model: Path) -> tuple[str, Any]:
    """The served answers against Hugging Face's pipeline, or its own model where it has none.

    Returns the first thing asked, and its answer.
    """
    if kind.pixels is not None:
        files = [base64.b64encode(drawn(index)).decode() for index in range(3)]
        (code, found), (_, alone) = _serve(tree, [{"inputs": files}, {"inputs": files[0]}])
        assert code == 200
        pipeline = transformers.pipeline("image-classification", model=str(model))
        from PIL import Image  # noqa: PLC0415 - pictures only

        for index, answer in enumerate(found):
            picture = Image.open(io.BytesIO(drawn(index))).convert("RGB")
            _alike(answer, pipeline(picture, top_k=5))
        _alike(alone, found[0])
        return files[0], alone
    texts = ["the cat sat", "a much longer text about nothing at all", "x"]
    if kind.task == "fill-mask":
        mask = "<mask>" if kind.name == "roberta" else "[MASK]"
        texts = [f"{text} {mask}" for text in texts]
    (code, found), (_, alone) = _serve(tree, [{"inputs": texts}, {"inputs": texts[0]}])
    assert code == 200, found
    _alike(alone, found[0])
    if kind.task == "feature-extraction":
        _like_the_states(kind, found, texts, model)
        return texts[0], alone
    pipeline = transformers.pipeline(kind.task, model=str(model))
    for text, answer in zip(texts, found, strict=True):
        more = {"top_k": 5} if kind.task in {"text-classification", "fill-mask"} else {}
        _alike(answer, pipeline(text, **more))
    return texts[0], alone


def _like_the_states(kind: OnePassKind, found: list[Any], texts: list[str], model: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    electra = kind.name == "electra"
    loader = transformers.AutoModelForPreTraining if electra else transformers.AutoModel
    eager = loader.from_pretrained(model).eval()
    for text, answer in zip(texts, found, strict=True):
        with torch.no_grad():
            out = eager(**tokenizer(text, return_tensors="pt"))
        if electra:
            scores = torch.tensor([word["score"] for word in answer])
            wanted = out.logits[0].sigmoid()[1:-1]
            assert "".join(text[word["start"] : word["end"]] for word in answer) == text
        else:
            scores = torch.tensor(answer)
            wanted = torch.nn.functional.normalize(out.last_hidden_state[0].mean(0), dim=0)
        assert scores.shape == wanted.shape
        assert float((scores - wanted).abs().max()) < 1e-5


def _alike(found: Any, wanted: Any) -> None:
    """Equal in every word; numbers to float32's rounding."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            _alike(found[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            _alike(one, other)
    elif isinstance(wanted, int | str) or wanted is None:
        assert found == wanted
    else:
        assert abs(found - float(wanted)) < 1e-5


def _refuses_in_words(kind: OnePassKind, server: Served) -> None:
    side = 2 if kind.pixels is None else kind.pixels + 1
    wrong: list[tuple[object, str]] = [
        ({"inputs": [], "parameters": {}}, "inputs must be"),
        ({"inputs": "x", "nonsense": 1}, "unknown field"),
    ]
    if kind.pixels is None:
        wrong.append(({"inputs": "x" * 200}, f"at most {MOST_TOKENS}, or cuts them"))
    else:
        black = [[[0.0] * side] * side] * 3
        wrong.append(({"pixel_values": black}, f"has the shape [3, {side}, {side}]"))
    for body, words in wrong:
        answer = server.post("/invocations", body)
        assert answer.status == 400, answer.body
        assert words in answer.json()["error"]


def test_a_tree_without_one_of_its_files_is_not_loaded(tmp_path: Path) -> None:
    """The loader is the decoders' own; here only that one-pass trees carry all of it."""
    runtime = Path("compile/lmi_compile/backends/aoti/runtime")
    source = Path(__file__).parents[2] / runtime
    shutil.copytree(source, tmp_path / "lmi_aoti_runtime")
    (tmp_path / "runtime.json").write_text(json.dumps({"format": 1, "files": {"x": 1}}))
    ended = subprocess.run(
        [sys.executable, "-m", "lmi_aoti_runtime.one_pass_probe", "--prompts", ".", "--out", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "the package lacks x" in ended.stdout
