"""A SageMaker endpoint, asked through an unmodified boto3 client."""

from collections.abc import Iterator
from typing import Any, Final

import boto3  # noqa: TID253 - imported when an endpoint is asked
from botocore.config import Config  # noqa: TID253 - as above
from botocore.exceptions import BotoCoreError, ClientError  # noqa: TID253 - as above

from lmi_compile.client.transport import Refused, Unreachable

_STATUS: Final = {
    "ThrottlingException": 429,
    "ServiceUnavailable": 503,
    "InternalDependencyException": 530,
    "ModelNotReadyException": 429,
}


class EndpointTransport:
    """`invoke_endpoint`, or its streaming twin.

    Args:
        name: the endpoint's.
        region: AWS region, or None for boto3's own choice.
        stream: ask for the answer in pieces.
        timeout_seconds: between two pieces of an answer.
        component: inference component, or None.
    """

    def __init__(
        self,
        name: str,
        *,
        region: str | None,
        stream: bool,
        timeout_seconds: float,
        component: str | None = None,
    ) -> None:
        config = Config(read_timeout=timeout_seconds, retries={"total_max_attempts": 1})
        self._client = boto3.client("sagemaker-runtime", region_name=region, config=config)
        self._stream = stream
        self._to = {"EndpointName": name, "ContentType": "application/json"}
        if component is not None:
            self._to["InferenceComponentName"] = component

    def ask(self, body: bytes) -> Iterator[bytes]:
        """Invoke the endpoint; see `Transport`."""
        try:
            if not self._stream:
                yield self._client.invoke_endpoint(**self._to, Body=body)["Body"].read()
                return
            answer = self._client.invoke_endpoint_with_response_stream(**self._to, Body=body)
            for event in answer["Body"]:
                yield _piece(event)
        except ClientError as error:
            raise _refused(error) from error
        except BotoCoreError as error:
            raise Unreachable(str(error)) from error

    def close(self) -> None:
        """Close the client's connections."""
        self._client.close()


def _piece(event: dict[str, Any]) -> bytes:
    if "PayloadPart" in event:
        return bytes(event["PayloadPart"]["Bytes"])
    for name, status in (("ModelStreamError", 424), ("InternalStreamFailure", 500)):
        if name in event:
            raise Refused(status, str(event[name].get("Message", name)))
    return b""


def _refused(error: ClientError) -> Refused:
    said = error.response.get("Error", {})
    code = str(said.get("Code", ""))
    status = int(error.response.get("OriginalStatusCode", 0) or 0)
    status = status or _STATUS.get(code, 0)
    status = status or int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    detail = str(error.response.get("OriginalMessage") or said.get("Message", ""))
    return Refused(status, f"{code}: {detail}")
