"""A Hugging Face hub on loopback: model info, HEAD and GET of files, gates and private models."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secretsecretsecretsecretsecret"  # noqa: S105 - of a hub in a test


class Hub:
    """Serves one repository, `org/model`; its branch `main` is at COMMIT.

    Attributes:
        files: name -> content.
        gate: None for public, `gated`, or `private` (needs TOKEN).
        damage: names that are served with another content than listed.
        asked: paths that were asked for.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.gate: str | None = None
        self.damage: set[str] = set()
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                del format, args

            def do_GET(self) -> None:
                hub.serve(self, body=True)

            def do_HEAD(self) -> None:
                hub.serve(self, body=False)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = request.path.partition("?")[0]
        self.asked.append(path)
        allowed = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.gate == "gated":
            _send(request, 403, b"{}", {"X-Error-Code": "GatedRepo"}, body=body)
        elif self.gate == "private" and not allowed:
            _send(request, 401, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif path.startswith("/api/models/org/model/revision/"):
            self._info(request, path.rpartition("/")[2], body=body)
        elif path.startswith(f"/org/model/resolve/{COMMIT}/"):
            self._file(request, path.rpartition("/")[2], body=body)
        else:
            _send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def _info(self, request: BaseHTTPRequestHandler, revision: str, *, body: bool) -> None:
        if revision not in {"main", COMMIT}:
            _send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
            return
        siblings: list[dict[str, Any]] = []
        for name, content in self.files.items():
            one: dict[str, Any] = {
                "rfilename": name,
                "size": len(content),
                "blobId": _blob(content),
            }
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            siblings.append(one)
        gated = "manual" if self.gate == "licence" else False
        info = {"id": "org/model", "sha": COMMIT, "gated": gated, "siblings": siblings}
        _send(request, 200, json.dumps(info).encode(), {}, body=body)

    def _file(self, request: BaseHTTPRequestHandler, name: str, *, body: bool) -> None:
        content = self.files.get(name)
        if content is None:
            _send(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_blob(content)}"'}
        if name in self.damage:
            content = content[:-1] + bytes([content[-1] ^ 1])
        _send(request, 200, content, headers, body=body)


def _blob(content: bytes) -> str:
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    headers: dict[str, str],
    *,
    body: bool,
) -> None:
    request.send_response_only(status)
    for name, value in {**headers, "Content-Length": str(len(data))}.items():
        request.send_header(name, value)
    request.end_headers()
    if body:
        request.wfile.write(data)
