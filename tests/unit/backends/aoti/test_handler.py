"""model.py in a simulated djl-serving worker: one process, all its requests."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

WORKER = Path(__file__).parents[3] / "simulators" / "djl_python_simulator" / "worker.py"
PROMPT = "and the thing is"
LONG = "and the thing " * 60


Report = dict[str, Any]
Answers = dict[str, tuple[int, dict[str, Any]]]


def _body(**parameters: object) -> str:
    return json.dumps({"inputs": PROMPT, "parameters": parameters})


def _serve(tree: Path, bodies: list[str | None]) -> Report:
    ended = subprocess.run(
        [sys.executable, str(WORKER), str(tree)],
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        check=True,
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


REQUESTS: dict[str, str | None] = {
    "greedy": _body(max_new_tokens=12, details=True),
    "plain": _body(max_new_tokens=12),
    "full": _body(max_new_tokens=12, return_full_text=True),
    "seeded": _body(max_new_tokens=12, do_sample=True, seed=5, temperature=1.5, details=True),
    "seeded again": _body(max_new_tokens=12, do_sample=True, seed=5, temperature=1.5, details=True),
    "other seed": _body(max_new_tokens=12, do_sample=True, seed=6, temperature=1.5, details=True),
    "top_k 1": _body(max_new_tokens=12, do_sample=True, seed=5, top_k=1, details=True),
    "tiny top_p": _body(max_new_tokens=12, do_sample=True, seed=5, top_p=1e-6, details=True),
    "streamed": json.dumps(
        {"inputs": PROMPT, "parameters": {"max_new_tokens": 12, "details": True}, "stream": True}
    ),
    "not json": "{",
    "wrong field": _body(temperature=0),
    "too long": json.dumps({"inputs": LONG}),
    "too many": _body(max_new_tokens=1000),
    "no body": None,
    "still alive": _body(max_new_tokens=12, details=True),
}


@pytest.fixture(scope="module")
def report(built: SimpleNamespace) -> Report:
    return _serve(built.package, list(REQUESTS.values()))


@pytest.fixture(scope="module")
def answers(report: Report) -> Answers:
    """Code and decoded body of each request."""
    later = report["outputs"][1:]
    return {
        name: (output["code"], json.loads(output["body"]))
        for name, output in zip(REQUESTS, later, strict=True)
        if name != "streamed"
    }


def _ids(answer: tuple[int, dict[str, Any]]) -> list[int]:
    return [token["id"] for token in answer[1]["details"]["tokens"]]


def test_the_first_request_loads_and_answers_nothing(report: Report) -> None:
    assert report["outputs"][0] == {"code": 204, "properties": {}, "body": ""}
    assert not report["torch_imported_before_the_first_request"]


def test_serving_imports_no_compiler_and_no_model_library(report: Report) -> None:
    foreign = ("torch._dynamo", "torch._inductor", "transformers", "sympy", "lmi_compile")
    assert not [name for name in report["modules"] if name.startswith(foreign)]
    assert "lmi_aoti_runtime.service" in report["modules"]


def test_greedy_is_the_models_own_continuation(built: SimpleNamespace, answers: Answers) -> None:
    tokenizer = Tokenizer.from_file(str(built.model / "tokenizer.json"))
    prompt = tokenizer.encode(PROMPT).ids
    model = AutoModelForCausalLM.from_pretrained(built.model).eval()
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0]
    expected = whole[len(prompt) :].tolist()
    code, body = answers["greedy"]
    assert code == 200
    assert _ids(answers["greedy"]) == expected
    assert body["generated_text"] == tokenizer.decode(expected)
    assert body["details"]["generated_tokens"] == len(expected)
    assert body["details"]["finish_reason"] == "length"
    with torch.no_grad():
        rows = torch.log_softmax(model(whole[None]).logits[0], -1)
    for step, token in enumerate(body["details"]["tokens"]):
        row = rows[len(prompt) + step - 1]
        assert token["log_prob"] == pytest.approx(float(row[token["id"]]), abs=1e-4)


def test_text_without_details_and_with_the_prompt(answers: Answers) -> None:
    assert set(answers["plain"][1]) == {"generated_text"}
    text = answers["plain"][1]["generated_text"]
    assert text == answers["greedy"][1]["generated_text"]
    assert answers["full"][1]["generated_text"] == PROMPT + text


def test_a_stream_is_a_line_for_each_token(report: Report, answers: Answers) -> None:
    output = report["outputs"][1 + list(REQUESTS).index("streamed")]
    assert output["properties"] == {"content-type": "application/jsonlines"}
    lines = [json.loads(line) for line in output["body"].splitlines()]
    details = dict(answers["greedy"][1]["details"])
    assert [line["token"] for line in lines] == details.pop("tokens")
    assert lines[-1]["generated_text"] == answers["greedy"][1]["generated_text"]
    assert lines[-1]["details"] == details
    assert all(set(line) == {"token"} for line in lines[:-1])


def test_a_seed_decides_the_draws(answers: Answers) -> None:
    assert _ids(answers["seeded"]) == _ids(answers["seeded again"])
    assert _ids(answers["seeded"]) != _ids(answers["other seed"])
    assert _ids(answers["top_k 1"]) == _ids(answers["greedy"])
    assert _ids(answers["tiny top_p"]) == _ids(answers["greedy"])


@pytest.mark.parametrize(
    ("request_name", "says"),
    [
        ("not json", "not JSON"),
        ("wrong field", "parameters.temperature"),
        ("too long", "this model takes at most 24"),
        ("too many", "max_new_tokens is 1000: together more than this model's 96"),
        ("no body", "no body"),
    ],
)
def test_a_bad_request_is_a_400_that_says_why(
    answers: Answers, request_name: str, says: str
) -> None:
    code, body = answers[request_name]
    assert code == 400
    assert body["code"] == 400
    assert says in body["error"]


def test_the_worker_survives_bad_requests(answers: Answers) -> None:
    assert answers["still alive"] == answers["greedy"]


def test_every_answer_is_json(report: Report) -> None:
    for name, output in zip(REQUESTS, report["outputs"][1:], strict=True):
        kind = "application/jsonlines" if name == "streamed" else "application/json"
        assert output["properties"] == {"content-type": kind}


def test_a_foreign_torch_fails_the_model_with_the_sentence(
    built: SimpleNamespace, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in built.package.iterdir():
        if path.name != "runtime.json":
            (tree / path.name).symlink_to(path)
    description = json.loads((built.package / "runtime.json").read_text(encoding="utf-8"))
    description["requires"]["torch"] = "2.7.1"
    (tree / "runtime.json").write_text(json.dumps(description), encoding="utf-8")
    (tree / "model.py").unlink()
    (tree / "model.py").write_bytes((built.package / "model.py").read_bytes())
    first = _serve(tree, [])["outputs"][0]
    assert first["code"] == 424
    error = json.loads(first["body"])["error"]
    assert "compiled for torch 2.7.1, this process has torch 2.13.0" in error
