"""A small SageMaker on loopback: botocore's own model validates, endpoints live through states.

It speaks the JSON protocol of SageMaker and of CloudWatch Logs, so that an unmodified boto3 client
talks to it. A model whose environment says SIMULATED_STATUS=Failed never comes up; an update to
one is rolled back. Two looks at a status change it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

_ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
_LOOKS = 2


class Refusal(Exception):
    """What the service answers with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class SageMaker:
    """The service's state and operations; every request is kept."""

    def __init__(self) -> None:
        self.model = botocore.session.get_session().get_service_model("sagemaker")
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.things: dict[tuple[str, str], dict[str, Any]] = {}
        self.refuse: list[Refusal] = []  # answered to the next requests, first first
        self.lock = threading.Lock()

    def operations(self) -> list[str]:
        return [name for name, _ in self.requests if not name.startswith("Describe")]

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if self.refuse:
                raise self.refuse.pop(0)
            shape = self.model.operation_model(operation).input_shape
            report = ParamValidator().validate(body, shape)
            if report.has_errors():
                raise Refusal("ValidationException", report.generate_report())
            self.requests.append((operation, body))
            for kind in ("InferenceComponent", "EndpointConfig", "Endpoint", "Model"):
                for verb in ("Create", "Update", "Describe", "Delete"):
                    if operation == verb + kind:
                        return self.act(verb, kind, body) or {}
            if operation == "ListInferenceComponents":
                found = [
                    one for (kind, _), one in self.things.items() if kind == "InferenceComponent"
                ]
                named = [one for one in found if one["EndpointName"] == body["EndpointNameEquals"]]
                return {"InferenceComponents": named}
            raise Refusal("UnknownOperationException", operation)

    def act(self, verb: str, kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
        key = (kind, body[f"{kind}Name"])
        found = self.things.get(key)
        if verb == "Create":
            if found is not None:
                message = f"Cannot create already existing {kind.lower()} {key[1]}"
                raise Refusal("ValidationException", message)
            self.things[key] = self.started(kind, {**body, "looks": 0, "was": None})
            return {f"{kind}Arn": f"{_ACCOUNT}:{kind.lower()}/{key[1]}"}
        if found is None:
            message = f"Could not find {kind.lower()} {key[1]}"
            raise Refusal("ValidationException", message)
        if verb == "Update":
            self.things[key] = self.started(kind, {**found, **body, "looks": 0, "was": found})
            return {f"{kind}Arn": f"{_ACCOUNT}:{kind.lower()}/{key[1]}"}
        if verb == "Delete":
            del self.things[key]
            return None
        return self.looked_at(kind, found)

    def started(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        config = thing.get("EndpointConfigName")
        if kind == "Endpoint" and ("EndpointConfig", config) not in self.things:
            raise Refusal("ValidationException", f"Could not find endpoint configuration {config}")
        thing[f"{kind}Status"] = "Updating" if thing["was"] else "Creating"
        return thing

    def looked_at(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        thing["looks"] += 1
        if thing["looks"] == _LOOKS and kind in {"Endpoint", "InferenceComponent"}:
            fails = self.fails(kind, thing)
            status = "Failed" if fails and not thing["was"] else "InService"
            thing[f"{kind}Status"] = status
            if fails:
                thing["FailureReason"] = "The primary container did not pass the ping health check."
                if thing["was"]:
                    for name in ("EndpointConfigName", "Specification"):
                        thing[name] = thing["was"].get(name)
        shown = {key: value for key, value in thing.items() if key not in {"looks", "was"}}
        shown = {key: value for key, value in shown.items() if value is not None}
        return {**shown, f"{kind}Arn": f"{_ACCOUNT}:{kind.lower()}/x", "CreationTime": 0}

    def fails(self, kind: str, thing: dict[str, Any]) -> bool:
        if kind == "InferenceComponent":
            names = [thing["Specification"]["ModelName"]]
        else:
            config = self.things["EndpointConfig", thing["EndpointConfigName"]]
            names = [one.get("ModelName") for one in config["ProductionVariants"]]
        models = [self.things["Model", name] for name in names if name]
        return any(
            one["PrimaryContainer"]["Environment"].get("SIMULATED_STATUS") == "Failed"
            for one in models
        )


def _logs(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    if operation == "DescribeLogStreams":
        return {"logStreams": [{"logStreamName": "AllTraffic/i-1"}]}
    message = f"ERROR the worker died in {body['logGroupName']}\n"
    return {"events": [{"timestamp": 1, "message": message}]}


@contextmanager
def running() -> Iterator[tuple[str, SageMaker]]:
    """Serve; gives the URL and the state."""
    state = SageMaker()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service, _, operation = self.headers["X-Amz-Target"].partition(".")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            try:
                answer = (
                    _logs(operation, body)
                    if service.startswith("Logs")
                    else state.answer(operation, body)
                )
                self.reply(200, answer)
            except Refusal as refusal:
                self.reply(refusal.status, {"__type": refusal.code, "message": str(refusal)})

        def reply(self, status: int, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
