"""Asking a true streaming server: pieces as they come, retries, errors by whose fault they are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_ports
from streaming import streaming

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.errors import ArtifactNotFound
from lmi_compile.client.invoking import Answer, invoke_all, request_body
from lmi_compile.client.pieces import Piece, documents, piece_of
from lmi_compile.client.retries import Retries, ask_again
from lmi_compile.client.target import Target, find_target
from lmi_compile.client.transport import HttpTransport, Refused, Unreachable, answers
from lmi_compile.errors import EndpointFailed, RequestRefused, Transient


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with streaming() as url:
        yield url


def ask(url: str, prompts: list[str], **changes: Any) -> list[Answer]:
    options: dict[str, Any] = {"stream": True, "concurrency": 1, "retries": Retries(times=0)}
    heard = changes.pop("heard", lambda _: None)
    target = Target(kind="url", where=url, timeout_seconds=60)
    parameters = changes.pop("parameters", {"max_new_tokens": 4})
    return list(invoke_all(target, prompts, parameters, heard=heard, **{**options, **changes}))


@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_every_form_of_answer_is_read(server: str, path: str, *, stream: bool) -> None:
    pieces: list[str] = []
    (answer,) = ask(server + path, ["a"], stream=stream, heard=pieces.append)
    assert answer.error is None
    assert (answer.text, answer.tokens) == (" t0 t1 t2 t3", 4)
    assert len([piece for piece in pieces if piece]) == (4 if stream else 1)


def test_answers_come_in_the_prompts_order(server: str) -> None:
    prompts = [str(n) for n in range(9)]
    found = ask(f"{server}/invocations", prompts, concurrency=4)
    assert [answer.prompt for answer in found] == prompts
    assert {answer.text for answer in found} == {" t0 t1 t2 t3"}


def test_a_busy_server_is_asked_again_after_a_pause() -> None:
    pauses: list[float] = []
    retries = Retries(times=3, random=lambda: 0.5, sleep=pauses.append)
    with streaming("--refuse-first", "2") as url:
        (answer,) = ask(f"{url}/invocations", ["a"], retries=retries)
        assert answer.error is None
        assert pauses == [0.25, 0.5]


def test_tries_end() -> None:
    retries = Retries(times=1, sleep=lambda _: None)
    with streaming("--refuse-first", "9") as url:
        (answer,) = ask(f"{url}/invocations", ["a"], retries=retries)
    assert isinstance(answer.error, Transient)
    assert "busy" in answer.error.what


def test_an_answer_that_breaks_off_is_not_asked_for_twice() -> None:
    with streaming("--break-off") as url:
        (answer,) = ask(f"{url}/invocations", ["a"], retries=Retries(times=3))
    assert isinstance(answer.error, Transient)
    assert answer.text == " t0 t1 t2"


def test_a_request_that_is_wrong_is_the_callers_fault(server: str) -> None:
    transport = HttpTransport(f"{server}/invocations", timeout_seconds=60)
    with pytest.raises(Refused, match="not JSON") as refused:
        list(ask_again(transport, b"{", Retries(times=5, sleep=pytest.fail)))
    assert refused.value.status == 400
    assert b"".join(transport.ask(request_body("a", {}, stream=False)))  # the connection goes on
    transport.close()


def test_nobody_there_is_said() -> None:
    (answer,) = ask("http://127.0.0.1:9/invocations", ["a"])
    assert isinstance(answer.error, Transient)
    assert not answers("http://127.0.0.1:9/ping", within_seconds=0)
    with pytest.raises(Unreachable):
        list(HttpTransport("http://127.0.0.1:9/", timeout_seconds=1).ask(b"{}"))


def test_a_server_that_came_up_answers(server: str) -> None:
    assert answers(f"{server}/ping", within_seconds=0)


def test_a_server_that_closed_between_requests_is_connected_to_again() -> None:
    (port,) = free_ports(1)
    with streaming("--port", str(port)) as url:
        transport = HttpTransport(f"{url}/invocations", timeout_seconds=60)
        assert list(transport.ask(request_body("a", {}, stream=True)))
    with streaming("--port", str(port)):
        assert list(transport.ask(request_body("a", {}, stream=True)))
    transport.close()


@pytest.mark.parametrize(
    ("document", "piece"),
    [
        ({"token": {"id": 1, "text": "a"}}, Piece(text="a", tokens=1)),
        ({"token": {"id": None, "text": "a"}, "generated_text": "ba"},
         Piece(text="a", tokens=1, whole="ba")),
        ({"generated_text": "ab"}, Piece(text="ab", whole="ab")),
        ({"generated_text": "ab", "details": {"generated_tokens": 2, "finish_reason": "length"}},
         Piece(text="ab", tokens=2, whole="ab", finish_reason="length")),
        ({"generated_text": "a", "details": {"finish_reason": "error"}, "error": "oom"},
         Piece(error="oom")),
        ({"error": {"message": "no"}}, Piece(error="no")),
        ({"choices": [{"delta": {"role": "assistant"}}]}, Piece()),
        ({"choices": [{"text": "ab", "finish_reason": "stop"}], "usage": {"completion_tokens": 2}},
         Piece(text="ab", tokens=2, finish_reason="stop")),
    ],
)  # fmt: skip
def test_documents_of_both_schemas(document: dict[str, Any], piece: Piece) -> None:
    assert piece_of(document) == piece


def test_documents_are_cut_where_lines_end_not_where_blocks_do() -> None:
    lines = b'{"a": 1}\n\n: comment\nevent: x\ndata: {"b": 2}\ndata: [DONE]\n[{"c": 3}]'
    for size in (1, 3, 1000):
        blocks = [lines[at : at + size] for at in range(0, len(lines), size)]
        assert list(documents(blocks)) == [{"a": 1}, {"b": 2}, {"c": 3}]
    (broken,) = documents([b"<html>"])
    assert "not JSON" in broken["error"]


def test_chat_requests_have_messages() -> None:
    body = json.loads(request_body("a", {"max_tokens": 1}, stream=True, chat=True))
    assert body == {
        "messages": [{"role": "user", "content": "a"}], "stream": True, "max_tokens": 1,
    }  # fmt: skip


def test_what_a_word_means(tmp_path: Path) -> None:
    registry = FolderRegistry(tmp_path)
    for text, kind, where in (
        ("http://h:1/invocations", "url", "http://h:1/invocations"),
        ("sagemaker://chat", "endpoint", "chat"),
        ("chat-1", "endpoint", "chat-1"),
    ):
        found = find_target(text, registry, timeout_seconds=1)
        assert (found.kind, found.where) == (kind, where)
    with pytest.raises(ArtifactNotFound):
        find_target("chat:prod", registry, timeout_seconds=1)


@pytest.mark.parametrize(
    ("status", "kind"), [(424, EndpointFailed), (500, EndpointFailed), (413, RequestRefused)]
)
def test_whose_fault_a_status_is(status: int, kind: type) -> None:
    from lmi_compile.client.invoking import translated  # noqa: PLC0415 - named here

    assert isinstance(
        translated(Target(kind="endpoint", where="chat"), Refused(status, "no")), kind
    )
