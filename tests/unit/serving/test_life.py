"""A full queue, a late answer, a client that leaves, a worker that dies, the end."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import boto3
import pytest
from botocore.exceptions import EventStreamError
from served import Answer, Served, serving

LONG = {"inputs": "and the thing", "parameters": {"max_new_tokens": 120, "stop": ["@@@"]}}
SHORT = {"inputs": "and the thing", "parameters": {"max_new_tokens": 2}}
_TRIES = 9  # a worker that had its time while the test had none has answered


@pytest.fixture(scope="module")
def narrow(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model is slow, with room for three requests and two that wait."""
    options = ("--queue", "2", "--request-seconds", "5")
    with serving(tree, *options, home=tmp_path_factory.mktemp("home")) as served:
        yield served


class _Paused:
    """The worker stands still, so that requests stay inside."""

    def __init__(self, server: Served) -> None:
        self._pid = server.worker()

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_raised: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


class _Slowed:
    """The worker runs a tenth of the time, until it is paused."""

    def __init__(self, server: Served) -> None:
        self._pid = server.worker()
        self._paused = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.pause()
        os.kill(self._pid, signal.SIGCONT)

    def pause(self) -> None:
        self._paused.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._paused.is_set():
            os.kill(self._pid, signal.SIGCONT)
            time.sleep(0.005)
            os.kill(self._pid, signal.SIGSTOP)
            self._paused.wait(0.045)


def _in_background(
    server: Served, count: int, body: object
) -> tuple[list[Answer], list[threading.Thread]]:
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(server.post("/invocations", body)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return answers, threads


def test_a_full_queue_refuses_at_once_and_a_late_answer_is_a_504(narrow: Served) -> None:
    with _Paused(narrow):
        answers, threads = _in_background(narrow, 5, SHORT)
        assert narrow.comes_to("lmi_requests_inside", 5)
        refused = narrow.post("/invocations", SHORT)  # answered while nothing can move
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert "5 requests are being served or wait; try again later" in refused.json()["error"]
        openai = narrow.post("/v1/completions", {"prompt": "and", "max_tokens": 2})
        assert (openai.status, openai.json()["error"]["type"]) == (503, "overloaded_error")
        assert narrow.post("/generate", SHORT).status == 429
        amazon = narrow.post("/endpoints/tiny/invocations", SHORT)
        assert (amazon.status, amazon.json()["OriginalStatusCode"]) == (424, 503)
        assert narrow.get("/ping").status == 200
        for thread in threads:
            thread.join(60)
    assert [answer.status for answer in answers] == [504] * 5
    assert "no whole answer within 5 s" in answers[0].json()["error"]
    assert narrow.metric("lmi_turned_away_total") == 4
    assert narrow.post("/invocations", SHORT).status == 200


@pytest.mark.parametrize(
    ("path", "mark"),
    [("/invocations", b'{"code": 504'), ("/v1/completions", b'"type": "server_error"')],
)
def test_a_stream_that_is_late_says_so_at_its_end(narrow: Served, path: str, mark: bytes) -> None:
    body = {"prompt": "and", "max_tokens": 120} if "v1" in path else LONG
    told = b""
    for _ in range(_TRIES):
        connection = narrow.connection()
        with _Slowed(narrow) as slowed:
            connection.request("POST", path, json.dumps({**body, "stream": True}))
            response = connection.getresponse()
            assert response.status == 200
            slowed.pause()
            told = response.read()
        connection.close()
        if b"no whole answer within 5 s" in told:
            break
    assert b"no whole answer within 5 s" in told
    assert mark in told
    assert narrow.comes_to("lmi_requests_inside", 0)


def _streamed_too_slowly(server: Served, client: Any) -> None:
    body = json.dumps({**LONG, "stream": True}).encode()
    for _ in range(_TRIES):
        with _Slowed(server) as slowed:
            done = client.invoke_endpoint_with_response_stream(EndpointName="tiny", Body=body)
            slowed.pause()
            with closing(done["Body"]):
                list(done["Body"])


def test_a_sagemaker_client_hears_of_a_stream_that_failed(narrow: Served) -> None:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=narrow.url,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - a client wants one, the server reads none
    )
    with closing(client), pytest.raises(EventStreamError, match="within 5 s") as failed:
        _streamed_too_slowly(narrow, client)
    assert failed.value.response["Error"]["Code"] == "ModelStreamError"


def test_a_client_that_leaves_frees_its_place(narrow: Served) -> None:
    cancelled = narrow.metric("lmi_cancelled_total")
    body = json.dumps(LONG).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with _Paused(narrow):
        clients = [socket.create_connection(("127.0.0.1", narrow.port)) for _ in range(5)]
        for client in clients:
            client.sendall(head.encode() + body)
        assert narrow.comes_to("lmi_requests_inside", 5)
        for client in clients:
            client.close()
        assert narrow.comes_to("lmi_requests_inside", 0)
    assert narrow.metric("lmi_cancelled_total") == cancelled + 5
    assert narrow.post("/invocations", SHORT).status == 200


def test_a_worker_that_dies_fails_its_requests_and_is_started_anew(narrow: Served) -> None:
    worker = narrow.worker()
    os.kill(worker, signal.SIGSTOP)
    with_it, threads = _in_background(narrow, 3, SHORT)
    assert narrow.comes_to("lmi_requests_inside", 3)
    os.kill(worker, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert {answer.status for answer in with_it} <= {503, 504}
    assert narrow.get("/ping").status == 503
    assert narrow.post("/invocations", SHORT).status == 503
    assert narrow.comes_to("lmi_restarts_total", 1)
    assert narrow.get("/ping").status == 200
    assert narrow.post("/invocations", SHORT).status == 200
    assert any("the model's process ended with code -9" in line for line in narrow.said)


def test_sigterm_lets_requests_end_and_takes_no_new_ones(tree: Path, tmp_path: Path) -> None:
    with serving(tree, home=tmp_path) as server:
        with _Paused(server):
            answers, threads = _in_background(server, 5, LONG)
            assert server.comes_to("lmi_requests_inside", 5)
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the port still takes connections")
            assert server.process.poll() is None
        for thread in threads:
            thread.join(60)
        assert [answer.status for answer in answers] == [200] * 5
        assert server.process.wait(120) == 0
