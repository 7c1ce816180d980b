"""SageMaker's own paths, as `InvokeEndpoint` and `InvokeEndpointWithResponseStream` answer.

A refusal of the model becomes SageMaker's: 424 ModelError with the container's status and message,
or, once an answer flows, ModelStreamErrorException. Source: botocore's service model
`sagemaker-runtime` 2017-05-13 and the API reference of both operations.
"""

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import (  # noqa: TID253 - `serve` alone imports this module
    JSONResponse,
    Response,
    StreamingResponse,
)

from lmi_compile.serving import eventstream
from lmi_compile.serving.limits import Refused
from lmi_compile.serving.lmi_api import lmi_error
from lmi_compile.serving.replies import Flow, Reply, Whole, encoded

_VARIANT = {"x-Amzn-Invoked-Production-Variant": "AllTraffic"}
_CONTENT_TYPE = "X-Amzn-SageMaker-Content-Type"
_TOO_LARGE = 413


def whole(reply: Reply) -> Response:
    """The answer to InvokeEndpoint: the container's own body."""
    if isinstance(reply, Whole):
        return Response(encoded(reply.content), media_type="application/json", headers=_VARIANT)
    return StreamingResponse(plain(reply), media_type=reply.media_type, headers=_VARIANT)


def streamed(reply: Reply) -> Response:
    """The answer to InvokeEndpointWithResponseStream: the same as PayloadPart events."""
    kind = "application/json" if isinstance(reply, Whole) else reply.media_type
    headers = {**_VARIANT, _CONTENT_TYPE: kind}
    if isinstance(reply, Whole):
        body = eventstream.payload_part(encoded(reply.content))
        return Response(body, media_type=eventstream.MEDIA_TYPE, headers=headers)
    return StreamingResponse(_events(reply), media_type=eventstream.MEDIA_TYPE, headers=headers)


def refused(refusal: Refused) -> Response:
    """SageMaker's error for a refusal of the container."""
    if refusal.status == _TOO_LARGE:
        return _error(400, "ValidationError", {"Message": refusal.error})
    side = "server" if refusal.status >= 500 else "client"  # noqa: PLR2004 - HTTP's classes
    original = encoded(lmi_error(refusal)).decode()
    said = f"Received {side} error ({refusal.status}) from primary"
    told = {
        "Message": f'{said} with message "{original}"',
        "OriginalStatusCode": refusal.status,
        "OriginalMessage": original,
        "LogStreamArn": "",
    }
    return _error(424, "ModelError", told)


async def plain(flow: Flow) -> AsyncIterator[bytes]:
    """The pieces; a failure on the way is said as the protocol says it."""
    try:
        async for chunk in flow.chunks:
            yield chunk
    except Refused as refusal:
        yield flow.failed(refusal)
    finally:
        await flow.chunks.aclose()


async def _events(flow: Flow) -> AsyncIterator[bytes]:
    try:
        async for chunk in flow.chunks:
            yield eventstream.payload_part(chunk)
    except Refused as refusal:
        yield eventstream.model_stream_error(refusal.error, str(refusal.status))
    finally:
        await flow.chunks.aclose()


def _error(status: int, kind: str, body: dict[str, Any]) -> Response:
    return JSONResponse(body, status_code=status, headers={"x-amzn-ErrorType": kind})
