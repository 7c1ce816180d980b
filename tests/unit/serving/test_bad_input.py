"""What a client may do wrong: the documented status and message, and the server stays up."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving

GOOD = {"inputs": "and the thing is", "parameters": {"max_new_tokens": 4}}


@pytest.fixture(autouse=True)
def _still_up(server: Served) -> Iterator[None]:
    yield
    assert server.get("/ping").json() == {"status": "Healthy"}
    assert server.post("/invocations", GOOD).status == 200


def _with(**parameters: object) -> dict[str, object]:
    return {"inputs": "and", "parameters": parameters}


DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"inputs": "and the thing " * 60}, 400, "this model takes at most 96"),
        ({"inputs": "x" * 1_000_000}, 400, "1000000 characters; this model takes at most 96"),
        (_with(max_new_tokens=1000), 400, "together more than this model's 128"),
        (_with(max_new_tokens=0), 400, "parameters.max_new_tokens must be a whole number from 1"),
        (_with(max_new_tokens=-5), 400, "parameters.max_new_tokens must be a whole number from 1"),
        (_with(temperature=-1), 400, "parameters.temperature must be a number above 0"),
        (_with(top_p=float("nan")), 400, "parameters.top_p must be a number above 0"),
        (_with(max_new_tokens=10**400), 400, "parameters.max_new_tokens must be"),
        (_with(beam_width=4), 400, "parameters.'beam_width' is unknown; known are"),
        (_with(stop=[f"s{number}" for number in range(1000)]), 400, "at most 16 are allowed"),
        (_with(best_of=3), 400, "parameters.best_of can only be 1"),
        ({"inputs": 7}, 400, "inputs must be a text that is not empty, not int"),
        ({"inputs": ["a", "b"]}, 400, "inputs must be a text that is not empty, not list"),
        ({"inputs": ""}, 400, "inputs must be a text that is not empty"),
        ({"inputs": None}, 400, "inputs must be a text that is not empty, not nothing"),
        ({"inputs": "a", "strem": True}, 400, "unknown field 'strem'"),
        ([1, 2], 400, "the body must be an object, not list"),
        (b'{"inputs": "\\ud800"}', 400, "half of a surrogate pair is no character"),
        (b'{"inputs": "\xff\xfe"}', 400, "the body is not JSON"),
        (b"\xff\xff\xff", 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b"{", 400, "the body is not JSON"),
        (b'{"inputs": 1' + b"0" * 5000 + b"}", 400, "the body is not JSON"),
        (DEEP, 400, "the body is not JSON"),
        (b" " * (6 * 2**20 + 1), 413, "at most 6291456 are taken"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_request_is_told_what_is_wrong(
    server: Served, body: object, status: int, says: str
) -> None:
    answer = server.post("/invocations", body)
    assert (answer.status, answer.json()["code"]) == (status, status)
    assert says in answer.json()["error"]
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"messages": []}, "messages must be a list that is not empty"),
        ({"messages": ["hello"]}, "messages[0] must be an object with a role and a content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "reads only text"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 100"),
        ({"max_tokens": 0}, "parameters.max_new_tokens must be a whole number from 1"),
        ({"tools": [{"type": "function"}]}, "tools: this model can only do []"),
        ({"stream": "yes"}, "stream must be true or false"),
        ({"stop": 7}, "stop must be a text or a list of texts"),
        ({"unheard_of": 1}, "'unheard_of' is unknown"),
    ],
)
def test_a_wrong_conversation_is_told_in_openais_words(
    server: Served, changes: dict[str, object], says: str
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **changes}
    answer = server.post("/v1/chat/completions", body)
    told = answer.json()["error"]
    assert (answer.status, told["code"], told["type"]) == (400, 400, "invalid_request_error")
    assert says in told["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/invocations", 405), ("DELETE", "/v1/models", 405)],
)
def test_an_unknown_path_or_method_is_named(
    server: Served, method: str, path: str, status: int
) -> None:
    answer = server.ask(method, path, None, {})
    assert answer.status == status
    assert path in answer.json()["error"]


def _sent(server: Served, data: bytes, seconds: float) -> bytes:
    """What comes back when `data` is sent and then nothing more."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        client.sendall(data)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_a_declared_size_is_refused_before_it_is_sent(server: Served) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(head)
        answer = b""
        while not answer.endswith(b"}"):
            chunk = client.recv(65536)
            assert chunk, answer
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"at most 6291456 are taken" in answer


def test_what_is_not_http_is_refused(server: Served) -> None:
    assert _sent(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 60)[9:12] == b"400"


def test_slow_clients_are_cut_off_and_hold_up_nobody(tree: Path, tmp_path: Path) -> None:
    with serving(tree, "--patience-seconds", "3", home=tmp_path) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(40)]
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        for number, client in enumerate(slow):
            client.sendall((head + b"\r\n{") if number % 2 else head)
        assert server.post("/invocations", GOOD).status == 200
        for client in slow:
            with client:
                assert client.recv(12) == b"HTTP/1.1 408"
        assert server.post("/invocations", GOOD).status == 200


def test_a_port_in_use_is_exit_8_before_anything_is_loaded(server: Served, tree: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "lmi_compile", "serve", str(tree), "--port", str(server.port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 8
    assert f"cannot listen on 127.0.0.1:{server.port}" in ended.stderr
    assert "Address already in use" in ended.stderr
    assert "choose another --port" in ended.stderr
    assert "every byte" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_tree_that_cannot_be_served_is_exit_10(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "null").mkdir()
    (tmp_path / "null" / "model.py").write_text("x = 1\n", encoding="utf-8")
    manifest = json.loads((tree / "lmi-artifact.json").read_bytes())
    (tmp_path / "null" / "lmi-artifact.json").write_text(json.dumps(manifest), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "lmi_compile", "serve", str(tmp_path / "null"), "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 10
    assert "Traceback" not in ended.stderr
