"""`make links` tells a page that is gone from a server that could not be asked."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from links import ask, named_links


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.removeprefix("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Pages) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "state"), [(200, "good"), (404, "broken"), (410, "broken"), (503, "unasked")]
)
def test_a_status_decides(status: int, state: str, server: str) -> None:
    found, said = ask(f"{server}/{status}")
    assert found == state
    assert said.startswith(str(status))


def test_a_server_that_is_not_there_is_not_a_broken_link() -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        state, said = ask(f"http://127.0.0.1:{bound.getsockname()[1]}/page")
    assert state == "unasked"
    assert said


def test_links_are_found_where_people_read_them() -> None:
    links = named_links()
    assert "https://keepachangelog.com" in links
    assert not [link for link in links if "in-toto.io/Statement" in link or "host:8080" in link]
