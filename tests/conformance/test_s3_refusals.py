"""Bad settings and rights: a clear error that says what is missing, and never a credential."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from s3servers import KEY, READER, READERS_SECRET, SECRET, Bucket, Server

from lmi_artifacts.errors import (
    ArtifactNotFound,
    ReferenceAmbiguous,
    RegistryMisconfigured,
    RegistryUnavailable,
)
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import open_registry
from lmi_artifacts.tree import scan_tree

TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN"  # noqa: S105 - of a server in a test


class Refusing:
    """An S3 endpoint that answers every request with one error."""

    def __init__(self) -> None:
        self.code, self.status = "AccessDenied", 403
        self.after = 0
        refusing = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                del format, args

            def do_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = f"<Error><Code>{refusing.code}</Code><Message>no</Message></Error>".encode()
                self.send_response_only(refusing.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815 - its names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    server = Refusing()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("AccessDenied", 403, "access denied: s3:GetObject is missing"),
        ("NoSuchBucket", 404, "no such bucket"),
        ("ExpiredToken", 400, "session token has expired"),
        ("InvalidToken", 400, "session token is not valid"),
        ("InvalidAccessKeyId", 403, "access key is not known"),
        ("SignatureDoesNotMatch", 403, "secret key is wrong"),
        ("RequestTimeTooSkewed", 403, "clock is too far"),
        ("AuthorizationHeaderMalformed", 400, "another region"),
    ],
)
def test_the_servers_refusals_name_what_is_missing(
    refusing: Refusing, code: str, status: int, says: str
) -> None:
    refusing.code, refusing.status = code, status
    registry = open_registry(Server(kind="refusing", endpoint=refusing.endpoint).url("some-bucket"))
    with pytest.raises(RegistryMisconfigured, match=says) as caught:
        registry.resolve("tiny:prod")
    assert "some-bucket" in str(caught.value)


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    with pytest.raises(RegistryMisconfigured, match=r"no usable credentials.*AWS_PROFILE"):
        open_registry("s3://some-bucket/x?endpoint=http://127.0.0.1:9").resolve("tiny:prod")
    with pytest.raises(RegistryMisconfigured, match="nobody"):
        open_registry("s3://some-bucket/x?profile=nobody").resolve("tiny:prod")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://one/a,s3://two/b", "more than one registry"),
        ("s3://one/a s3://two/b", "more than one registry"),
        ("s3://UPPER/a", "not a bucket's name"),
        ("s3://bucket/a/../b", "segment"),
        ("s3://bucket/a?colour=red", "unknown option colour"),
        ("s3://bucket/a?payer=me", "payer"),
        (f"s3://{KEY}:{SECRET}@bucket/a", "carries no credentials"),
        (f"s3://bucket/a?X-Amz-Signature={SECRET}", "carries no credentials"),
        (f"s3://bucket/a?secret_key={SECRET}", "carries no credentials"),
        (f"s3://bucket/a?endpoint=http://{KEY}:{SECRET}@localhost:1", "endpoint carries cred"),
        ("s3://bucket/a?region=eu-west-1&region=us-east-1", "one option twice"),
        ("S3://bucket/a", "s3:// URL"),
    ],
)
def test_urls_that_are_none(url: str, says: str) -> None:
    with pytest.raises(RegistryUnavailable, match=says) as caught:
        open_registry(url)
    assert SECRET not in str(caught.value)


def sealed(folder: Path) -> Manifest:
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    return Manifest(
        name="tiny", recipe={}, toolchain={}, build_key="1", steps={}, serving={}, licence=None,
        simulated=False, files=scan_tree(folder),
    )  # fmt: skip


def test_a_reader_is_told_which_right_is_missing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = sealed(tmp_path / "tree")
    ref = bucket.open().publish(tmp_path / "tree", manifest).ref
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READERS_SECRET)
    assert bucket.open().pull(ref, tmp_path / "dest").fetched == 1
    with pytest.raises(RegistryMisconfigured, match="s3:PutObject is missing"):
        bucket.open().publish(tmp_path / "tree", manifest)


def test_what_is_not_there_is_said(seaweed_server: Server, tmp_path: Path) -> None:
    bucket = Bucket(seaweed_server)
    ref = bucket.open().publish(tmp_path / "t", sealed(tmp_path / "t"), tags=["new"]).ref
    with pytest.raises(ArtifactNotFound) as caught:
        bucket.open().resolve("tiny:never")
    assert caught.value.nearest == ("tiny:new", str(ref))
    client = seaweed_server.client()
    twin = ref.digest.hex[:10] + "0" * 54
    for key in (f"index/digests/{twin}/tiny", f"artifacts/tiny/{twin}/manifest.json"):
        client.put_object(Bucket=bucket.bucket, Key=f"team/models/{key}", Body=b"x")
    with pytest.raises(ReferenceAmbiguous):
        bucket.open().resolve(f"tiny@sha256:{ref.digest.hex[:10]}")


def test_no_credential_and_no_signed_url_is_ever_shown(
    seaweed_server: Server, refusing: Refusing, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Our own loggers and errors; boto's debug logs are nobody's to turn on here."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    caplog.set_level(logging.INFO)
    bad = Server(kind="refusing", endpoint=refusing.endpoint).url("some-bucket")
    shown: list[str] = []
    for url, verb in ((bad, "list"), (bad, "gc"), (seaweed_server.url("absent-bucket"), "list")):
        ended = subprocess.run(
            [sys.executable, "-m", "lmi_compile", verb, "--json", "-v", "--registry", url],
            capture_output=True, text=True, check=False, cwd=tmp_path,
            env={**os.environ, "LMI_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        assert ended.returncode in {8, 10}, ended.stderr
        assert "Traceback" not in ended.stderr
        assert json.loads(ended.stdout)["exit_code"] == ended.returncode
        shown += [ended.stdout, ended.stderr]
    text = "".join(shown) + caplog.text
    for secret in (SECRET, TOKEN, "X-Amz-", "Signature=", "AWS4-HMAC"):
        assert secret not in text
