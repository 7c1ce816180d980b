"""A running endpoint is asked over HTTP and judged by what it generates."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lmi_compile import endpoint
from lmi_compile.errors import EnvironmentFault, VerificationFailed
from lmi_verify import generation, reference
from lmi_verify.eager import Eager
from lmi_verify.huggingface import load
from lmi_verify.prompts import load_prompts
from lmi_verify.verdict import Verdict, parse

Change = Callable[[dict[str, Any]], object]


class Server(ThreadingHTTPServer):
    """A tiny model behind the LMI schema; `change` spoils what it would answer."""

    daemon_threads = True
    eager: Eager
    change: Change = staticmethod(lambda answer: answer)
    status = 200
    asked: int = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        content = json.dumps(self._answer(body)).encode()
        self.send_response(self.server.status if self.path == "/invocations" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name upstream
        del format, args

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        eager, most = self.server.eager, body["parameters"]["max_new_tokens"]
        logits, state = eager.prefill(eager.encode(body["inputs"]))
        row, tokens = logits[-1], []
        while not tokens or (len(tokens) < most and tokens[-1]["id"] not in eager.eos_token_ids):
            if tokens:
                row = eager.decode(state, tokens[-1]["id"])
            token = int(row.argmax())
            told = eager.log_prob(row, token)
            tokens.append({"id": token, "text": eager.piece(token), "log_prob": told})
        ended = tokens[-1]["id"] in eager.eos_token_ids
        answer = {
            "generated_text": "".join(token["text"] for token in tokens),
            "details": {
                "finish_reason": "eos_token" if ended else "length",
                "generated_tokens": len(tokens),
                "tokens": tokens,
            },
        }
        self.server.change(answer)
        return answer


@pytest.fixture(scope="module")
def model(make_tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("endpoint") / "model")


@pytest.fixture(scope="module")
def asked(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    params = {
        "prompts": "v2",
        "prompts_digest": load_prompts("v2").digest,
        "max_input_len": 200,
        "max_seq_len": 280,
        "forced_tokens": 64,
        "trust_remote_code": False,
    }
    reference.run(params, {"model": model}, out)
    return out


@pytest.fixture(scope="module")
def eager(model: Path) -> Eager:
    return Eager(load(model, trust_remote_code=False))


@pytest.fixture
def server(eager: Eager) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.eager = eager
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def judged(server: Server, asked: Path, root: Path) -> Verdict:
    answers, out = root / "answers", root / "verdict"
    answers.mkdir(parents=True)
    out.mkdir(parents=True)
    url = f"http://127.0.0.1:{server.server_port}"
    endpoint.run({"url": url}, {"reference": asked}, answers)
    params = {"dtype": "float32", "method": "none", "gates": {}}
    generation.run(params, {"reference": asked, "answers": answers}, out)
    return parse((out / "verdict.json").read_bytes())


def test_the_right_model_is_accepted_with_the_scope_generation(
    server: Server, asked: Path, tmp_path: Path
) -> None:
    verdict = judged(server, asked, tmp_path)
    assert (verdict.decision, verdict.scope) == ("ACCEPT", "generation"), verdict.summary
    checks = {check.metric: check.measured for check in verdict.checks}
    assert checks["reported_error"] is not None
    assert verdict.measurements is not None
    assert server.asked == len(verdict.measurements.prompts) >= 5


def warm(answer: dict[str, Any]) -> None:
    for token in answer["details"]["tokens"]:
        token["log_prob"] *= 0.9


def cut(answer: dict[str, Any]) -> None:
    answer["details"]["tokens"] = answer["details"]["tokens"][:2]


def other_choice(answer: dict[str, Any]) -> None:
    answer["details"]["tokens"][1]["id"] = (answer["details"]["tokens"][1]["id"] + 1) % 300


@pytest.mark.parametrize(
    ("change", "metric"),
    [(warm, "reported_error"), (cut, "stop_errors"), (other_choice, "greedy_margin")],
)
def test_a_wrong_answer_is_a_regression(
    server: Server, asked: Path, tmp_path: Path, change: Change, metric: str
) -> None:
    server.change = change
    verdict = judged(server, asked, tmp_path)
    assert verdict.decision == "REGRESSION"
    assert metric in {check.metric for check in verdict.checks if not check.passed}


def test_an_endpoint_without_log_probabilities_is_judged_by_its_ids(
    server: Server, asked: Path, tmp_path: Path
) -> None:
    def silent(answer: dict[str, Any]) -> None:
        for token in answer["details"]["tokens"]:
            del token["log_prob"]

    server.change = silent
    verdict = judged(server, asked, tmp_path)
    assert verdict.decision == "ACCEPT"
    assert "reported_error" in verdict.unmeasured


def test_ids_outside_the_vocabulary_are_infeasible(
    server: Server, asked: Path, tmp_path: Path
) -> None:
    server.change = lambda answer: answer["details"]["tokens"][0].update(id=10**6)
    assert judged(server, asked, tmp_path).decision == "INFEASIBLE"


def test_another_schema_or_an_error_is_told_with_the_address(
    server: Server, asked: Path, tmp_path: Path
) -> None:
    server.change = lambda answer: answer.pop("details")
    with pytest.raises(VerificationFailed, match="LMI schema") as caught:
        judged(server, asked, tmp_path)
    assert "details" in caught.value.why
    server.status = 424
    with pytest.raises(VerificationFailed, match="answers 424"):
        judged(server, asked, tmp_path / "again")


def test_nobody_at_the_address_is_the_environments_fault(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be asked"):
        endpoint.run({"url": "http://127.0.0.1:9"}, {"reference": asked}, tmp_path)


@pytest.mark.parametrize(
    ("given", "asked_at"),
    [
        ("http://a:8080", "http://a:8080/invocations"),
        ("http://a:8080/", "http://a:8080/invocations"),
        ("https://a/predictions/m", "https://a/predictions/m"),
    ],
)
def test_an_address_without_a_path_is_asked_at_invocations(given: str, asked_at: str) -> None:
    assert endpoint.invocations(given) == asked_at
