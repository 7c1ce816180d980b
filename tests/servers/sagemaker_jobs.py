"""SageMaker's jobs on loopback: requests held against botocore's model, jobs run as processes.

A job's inputs come from S3, its entrypoint runs here with `/opt/ml` in a folder of its own, its
outputs go to S3 where the real service puts them. Nothing of the image is used.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

_MODEL = botocore.session.get_session().get_service_model("sagemaker")


def problems(operation: str, request: dict[str, Any]) -> list[str]:
    """What botocore's own model has against a request, closed lists and lengths included."""
    shape = _MODEL.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    found = [report.generate_report()] if report.has_errors() else []
    return found + list(_closer(shape, request, operation))


def _closer(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, item in value.items():
            yield from _closer(shape.members[name], item, f"{path}.{name}")
    elif shape.type_name == "list":
        if len(value) > shape.metadata.get("max", len(value)):
            yield f"{path}: {len(value)} items"
        for item in value:
            yield from _closer(shape.member, item, path)
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value} is none of the list"
        if len(value) > shape.metadata.get("max", len(value)):
            yield f"{path}: {len(value)} characters"


@dataclass
class Service:
    """The jobs, and what they need of S3."""

    home: Path
    s3: Any
    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    path: str = ""

    def handle(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        kind = "Training" if "Training" in operation else "Processing"
        name = request[f"{kind}JobName"]
        if operation.startswith("Create"):
            wrong = problems(operation, request)
            if wrong or name in self.jobs:
                return 400, {"__type": "ValidationException", "message": "; ".join(wrong) or name}
            self.requests.append((operation, request))
            self.jobs[name] = {f"{kind}JobStatus": "InProgress", f"{kind}JobName": name}
            threading.Thread(target=self._run, args=(kind, name, request)).start()
            return 200, {f"{kind}JobArn": f"arn:aws:sagemaker:x:000000000000:job/{name}"}
        if name not in self.jobs:
            return 400, {"__type": "ValidationException", "message": "not found"}
        if operation.startswith("Stop"):
            self.jobs[name][f"{kind}JobStatus"] = "Stopped"
            os.killpg(self.processes[name].pid, signal.SIGKILL)
            return 200, {}
        return 200, self.jobs[name]

    def _run(self, kind: str, name: str, request: dict[str, Any]) -> None:
        root = self.home / name
        (root / "output").mkdir(parents=True)
        training = kind == "Training"
        application = request["AlgorithmSpecification" if training else "AppSpecification"]
        for place, url in _sources(request, training=training):
            self._get(url, root / place)
        for path in root.rglob("request.json"):
            path.write_text(path.read_text().replace("/opt/ml", str(root)))
        argv = [part.replace("/opt/ml", str(root)) for part in application["ContainerEntrypoint"]]
        path = os.pathsep.join((self.path, str(Path(sys.executable).parent), os.defpath))
        argv[0] = shutil.which(argv[0], path=str(Path(sys.executable).parent)) or argv[0]
        process = subprocess.Popen(
            argv, env={"PATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.processes[name] = process
        code = process.wait()
        if self.jobs[name][f"{kind}JobStatus"] == "Stopped":
            return
        said: dict[str, Any] = {f"{kind}JobStatus": "Failed" if code else "Completed"}
        for file, key in (("failure", "FailureReason"), ("message", "ExitMessage")):
            if (root / "output" / file).exists():
                said[key] = f"AlgorithmError: {(root / 'output' / file).read_text()}"
        if training:
            where = request["OutputDataConfig"]["S3OutputPath"] + f"/{name}/output/model/"
            said["ModelArtifacts"] = {"S3ModelArtifacts": where}
            self._put(root / "model", where)
        else:
            output = request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
            self._put(root / "processing" / "output", output)
        self.jobs[name] |= said

    def _get(self, url: str, folder: Path) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for item in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
            if item["Key"].startswith(f"{prefix}/"):
                target = folder / item["Key"].removeprefix(f"{prefix}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(bucket, item["Key"], str(target))

    def _put(self, folder: Path, url: str) -> None:
        bucket, _, prefix = url.rstrip("/").removeprefix("s3://").partition("/")
        for path in folder.rglob("*"):
            if path.is_file():
                self.s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")


def _sources(request: dict[str, Any], *, training: bool) -> Iterator[tuple[str, str]]:
    if training:
        for channel in request["InputDataConfig"]:
            place = f"input/data/{channel['ChannelName']}"
            yield place, channel["DataSource"]["S3DataSource"]["S3Uri"]
        return
    for item in request["ProcessingInputs"]:
        yield item["S3Input"]["LocalPath"].removeprefix("/opt/ml/"), item["S3Input"]["S3Uri"]


@contextmanager
def sagemaker(home: Path, s3: Any) -> Iterator[Service]:
    """Run the service."""
    service = Service(home=home, s3=s3)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            code, answer = service.handle(operation, body)
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing: what it was asked is in `requests`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
