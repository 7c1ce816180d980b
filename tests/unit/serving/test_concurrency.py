"""Many clients at once, some of whom leave: those who stay get the reference's tokens."""

import json
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from served import Served

WORDS = ("and", " the", " thing", " is", " of", " a", " 7", " in", " on")
Greedy = Callable[[str, int], list[int]]


def _prompts(count: int) -> list[tuple[str, int]]:
    draw = random.Random(count)
    return [
        ("".join(draw.choices(WORDS, k=draw.randint(1, 20))).strip(), draw.randint(1, 24))
        for _ in range(count)
    ]


def _body(text: str, new: int, *, stream: bool) -> bytes:
    parameters = {"max_new_tokens": new, "details": True}
    return json.dumps({"inputs": text, "parameters": parameters, "stream": stream}).encode()


def _asked(server: Served, text: str, new: int, *, stream: bool) -> list[int]:
    answer = server.post("/invocations", _body(text, new, stream=stream))
    assert answer.status == 200, answer.body
    if stream:
        return [json.loads(line)["token"]["id"] for line in answer.body.splitlines()]
    return [token["id"] for token in answer.json()["details"]["tokens"]]


def _left(server: Served, draw: random.Random) -> None:
    """A client that leaves: after its request, or in the middle of the answer."""
    body = _body("and the thing " * 3, 90, stream=draw.random() < 0.7)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as client:
        client.sendall(head.encode() + body)
        if draw.random() < 0.7:
            client.recv(draw.randint(1, 600))


@pytest.mark.parametrize("concurrency", [1, 32])
def test_same_tokens_as_the_reference_while_clients_leave(
    server: Served, greedy: Greedy, concurrency: int
) -> None:
    asked = _prompts(20 if concurrency == 1 else 48)
    draw = random.Random(concurrency)
    cancelled = server.metric("lmi_cancelled_total")
    with ThreadPoolExecutor(concurrency) as pool, ThreadPoolExecutor(4) as leavers:
        leaving = [leavers.submit(_left, server, random.Random(seed)) for seed in range(20)]
        found = list(
            pool.map(
                lambda one: _asked(server, *one, stream=draw.random() < 0.5),
                asked,
            )
        )
        for one in leaving:
            one.result()
    assert found == [greedy(text, new) for text, new in asked]
    assert server.comes_to("lmi_requests_inside", 0)
    assert server.metric("lmi_cancelled_total") > cancelled
