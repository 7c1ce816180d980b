"""Carries a deployment out through boto3: send, wait, say why when it fails, take it away again."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import boto3  # noqa: TID253 - only `deploy` imports this module
from botocore.config import Config  # noqa: TID253 - as above
from botocore.exceptions import (  # noqa: TID253 - as above
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)

from lmi_compile.deploy.requests import Deployment, Request
from lmi_compile.errors import CompileError, DeployFailed, EnvironmentFault, Transient

Say = Callable[[str], None]
_EXISTS: Final = ("already existing", "already exists")
_ABSENT: Final = ("Could not find", "does not exist", "not found")
_BUSY: Final = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_LOG_LINES, _LOG_STREAMS = 30, 3
_SAY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """SageMaker and the logs of one region.

    Attributes:
        sagemaker: boto3's client.
        logs: boto3's client of CloudWatch Logs.
        say: where progress goes.
        poll_seconds: between two looks at a status.
        wait_seconds: until waiting is given up.
    """

    sagemaker: Any
    logs: Any
    say: Say
    poll_seconds: float = 15.0
    wait_seconds: float = 2 * 3600.0

    def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request by its name in SageMaker's API.

        Raises:
            CompileError: whose fault it is, by the service's answer.
        """
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)
        with translated(operation):
            answer: dict[str, Any] = getattr(self.sagemaker, name[1:])(**parameters)
            return answer


def connect(region: str, say: Say, *, poll_seconds: float, wait_seconds: float) -> Service:
    """Make the clients; sends nothing.

    Raises:
        EnvironmentFault: boto3 cannot be configured.
    """
    config = Config(retries={"mode": "standard", "max_attempts": 8})
    with translated("connecting"):
        return Service(
            sagemaker=boto3.client("sagemaker", region_name=region, config=config),
            logs=boto3.client("logs", region_name=region, config=config),
            say=say,
            poll_seconds=poll_seconds,
            wait_seconds=wait_seconds,
        )


def instance_types(service: Service) -> tuple[str, ...]:
    """Every instance type that a production variant can have, by the service's own model."""
    shape = service.sagemaker.meta.service_model.shape_for("ProductionVariantInstanceType")
    return tuple(shape.enum)


def carry_out(deployment: Deployment, service: Service, *, wait: bool) -> dict[str, Any]:
    """Create or update the endpoint, and wait until it serves.

    Returns:
        What the endpoint is now: `endpoint`, `status`, `config` and whether it was `created`.

    Raises:
        DeployFailed: it failed, or rolled back; with the end of the container's log.
        CompileError: the service refused a request, or waiting was given up.
    """
    for request in deployment.prepare:
        _send_once(service, request)
    before = _endpoint(service, deployment.endpoint)
    if before is None:
        service.say(f"creating the endpoint {deployment.endpoint}")
        service.call(*deployment.create)
    elif before["EndpointStatus"] == "Failed":
        what = f"the endpoint {deployment.endpoint} is there and Failed"
        raise DeployFailed(what, str(before.get("FailureReason", "")), "deploy --delete it first")
    elif before["EndpointConfigName"] == deployment.config_name:
        service.say(f"the endpoint {deployment.endpoint} is what is wanted already")
    else:
        service.say(f"updating the endpoint {deployment.endpoint}")
        service.call(*deployment.update)
    status = _wait_for_endpoint(service, deployment) if wait else "Creating"
    if deployment.component is not None and wait:
        status = _component(service, deployment)
    return {
        "endpoint": deployment.endpoint,
        "config": deployment.config_name,
        "status": status,
        "created": before is None,
    }


def take_away(endpoint: str, service: Service) -> list[str]:
    """Delete an endpoint, its components, its configuration and its models.

    Returns:
        What was deleted, in order; nothing where there was no such endpoint.
    """
    gone: list[str] = []
    found = _endpoint(service, endpoint)
    if found is None:
        return gone
    models: set[str] = set()
    listed = service.call("ListInferenceComponents", {"EndpointNameEquals": endpoint})
    for component in listed.get("InferenceComponents", []):
        name = component["InferenceComponentName"]
        described = service.call("DescribeInferenceComponent", {"InferenceComponentName": name})
        models |= {str(described.get("Specification", {}).get("ModelName", ""))}
        service.call("DeleteInferenceComponent", {"InferenceComponentName": name})
        _until_gone(service, "DescribeInferenceComponent", {"InferenceComponentName": name})
        gone.append(f"inference component {name}")
    config = found["EndpointConfigName"]
    variants = service.call("DescribeEndpointConfig", {"EndpointConfigName": config})
    models |= {str(one.get("ModelName", "")) for one in variants["ProductionVariants"]}
    service.call("DeleteEndpoint", {"EndpointName": endpoint})
    _until_gone(service, "DescribeEndpoint", {"EndpointName": endpoint})
    service.call("DeleteEndpointConfig", {"EndpointConfigName": config})
    gone += [f"endpoint {endpoint}", f"endpoint configuration {config}"]
    for model in sorted(models - {""}):
        service.call("DeleteModel", {"ModelName": model})
        gone.append(f"model {model}")
    return gone


def _send_once(service: Service, request: Request) -> None:
    """Create what carries its content in its name: one that is there already is the same."""
    try:
        service.call(*request)
    except CompileError as error:
        if not any(words in error.why for words in _EXISTS):
            raise


def _endpoint(service: Service, name: str) -> dict[str, Any] | None:
    return _describe(service, "DescribeEndpoint", {"EndpointName": name})


def _describe(service: Service, operation: str, key: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        return service.call(operation, key)
    except CompileError as error:
        if any(words in error.why for words in _ABSENT):
            return None
        raise


def _wait_for_endpoint(service: Service, deployment: Deployment) -> str:
    name = deployment.endpoint
    found = _settled(service, "DescribeEndpoint", {"EndpointName": name}, "EndpointStatus")
    status, why = str(found["EndpointStatus"]), str(found.get("FailureReason", ""))
    if status != "InService":
        raise _failed(service, f"the endpoint {name} is {status}", why, f"Endpoints/{name}")
    if found["EndpointConfigName"] != deployment.config_name:
        what = f"the endpoint {name} was rolled back to {found['EndpointConfigName']}"
        raise _failed(service, what, why, f"Endpoints/{name}")
    return status


def _component(service: Service, deployment: Deployment) -> str:
    create, update = deployment.component, deployment.component_update
    if create is None or update is None:
        return "InService"
    name = str(create[1]["InferenceComponentName"])
    key = {"InferenceComponentName": name}
    service.call(*(update if _describe(service, "DescribeInferenceComponent", key) else create))
    found = _settled(service, "DescribeInferenceComponent", key, "InferenceComponentStatus")
    status, why = str(found["InferenceComponentStatus"]), str(found.get("FailureReason", ""))
    model = found.get("Specification", {}).get("ModelName")
    wanted: Any = create[1]["Specification"]
    if status == "InService" and model != wanted["ModelName"]:
        status = f"rolled back to {model}"
    if status != "InService":
        what = f"the inference component {name} is {status}"
        raise _failed(service, what, why, f"InferenceComponents/{name}")
    return status


def _settled(
    service: Service, operation: str, key: Mapping[str, str], field: str
) -> dict[str, Any]:
    """Wait until a status is one that does not change by itself, saying how far it is."""
    started = said = time.monotonic()
    shown = ""
    while True:
        found = service.call(operation, key)
        status, now = str(found[field]), time.monotonic()
        if status not in _BUSY:
            return found
        if status != shown or now - said >= _SAY_SECONDS:
            shown, said = status, now
            service.say(f"{next(iter(key.values()))}: {status}, {now - started:.0f} s")
        if now - started > service.wait_seconds:
            what = f"{next(iter(key.values()))} is still {status} after {now - started:.0f} s"
            raise Transient(what, fix="run the same command again: it goes on from here")
        time.sleep(service.poll_seconds)


def _until_gone(service: Service, operation: str, key: Mapping[str, str]) -> None:
    started = time.monotonic()
    while _describe(service, operation, key) is not None:
        if time.monotonic() - started > service.wait_seconds:
            raise Transient(f"{next(iter(key.values()))} is still there", fix="run it again")
        time.sleep(service.poll_seconds)


def _failed(service: Service, what: str, why: str, group: str) -> DeployFailed:
    tail = "\n".join(f"  | {line}" for line in _log_tail(service, f"/aws/sagemaker/{group}"))
    log = f"the end of the container's log:\n{tail}" if tail else "the container left no log"
    return DeployFailed(what, f"{why}\n{log}".strip(), "mend it, or deploy --delete it")


def _log_tail(service: Service, group: str) -> list[str]:
    """The end of a container's log; nothing where it cannot be read: it is not the failure."""
    try:
        streams = service.logs.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=_LOG_STREAMS
        )["logStreams"]
        lines: list[str] = []
        for stream in streams:
            events = service.logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], limit=_LOG_LINES
            )["events"]
            lines += [str(event["message"]).rstrip() for event in events]
    except (BotoCoreError, ClientError):
        return []
    return lines[-_LOG_LINES:]


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn boto3's errors into ours, by whose fault they are.

    Raises:
        EnvironmentFault: no credentials, or no region.
        DeployFailed: the request is wrong, or the service refuses it.
        Transient: AWS does not answer.
    """
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
        fix = "set AWS_PROFILE, a role or AWS_REGION"
        raise EnvironmentFault(f"{operation}: no access to AWS", str(error), fix) from error
    except ParamValidationError as error:
        raise DeployFailed(f"{operation} would be refused", str(error)) from error
    except ClientError as error:
        raise _of_service(operation, error) from error
    except BotoCoreError as error:
        raise Transient(f"{operation}: AWS did not answer", str(error)) from error


def _of_service(operation: str, error: ClientError) -> CompileError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if "Throttl" in code or code in {"TooManyRequestsException", "ServiceUnavailable"}:
        return Transient(f"{operation}: AWS asks to wait", said, "run the same command again")
    if code in {"AccessDenied", "AccessDeniedException", "UnrecognizedClientException"}:
        return EnvironmentFault(f"{operation} is not allowed", said, "add that permission")
    if code == "ResourceLimitExceeded":
        fix = "ask for a higher quota, or take another instance type or region"
        return EnvironmentFault(f"{operation}: a quota is used up", said, fix)
    if status >= 500:  # noqa: PLR2004 - HTTP's own line
        return Transient(f"{operation}: AWS failed", said, "run the same command again")
    return DeployFailed(f"{operation} was refused", said)
