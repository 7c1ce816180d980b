"""The paths, each with its own words for a refusal."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette  # noqa: TID253 - `serve` alone imports this module
from starlette.datastructures import Headers  # noqa: TID253 - the same
from starlette.exceptions import HTTPException  # noqa: TID253 - the same
from starlette.requests import Request  # noqa: TID253 - the same
from starlette.responses import JSONResponse, Response, StreamingResponse  # noqa: TID253 - the same
from starlette.routing import Route  # noqa: TID253 - the same
from starlette.types import ASGIApp, Message, Receive, Scope, Send  # noqa: TID253 - the same

from lmi_compile.serving import sagemaker_api
from lmi_compile.serving.engine import Engine
from lmi_compile.serving.limits import Refused
from lmi_compile.serving.lmi_api import generate, invoke, lmi_error, tgi_error
from lmi_compile.serving.openai_api import chat, complete, models, openai_error
from lmi_compile.serving.replies import (
    Gone,
    Reply,
    Whole,
    answer_at_once,
    decoded,
    encoded,
    read_body,
    unless_gone,
)
from lmi_compile.serving.template import ChatTemplate

_GONE = 499  # nobody reads it; the figures do
_TOO_SLOW = 408
_RETRY = {503: {"Retry-After": "1"}, 429: {"Retry-After": "1"}}
_log = logging.getLogger(__name__)

Answer = Callable[[bytes, Headers], Awaitable[Reply]]
Render = Callable[[Reply], Response]
Refuse = Callable[[Refused], Response]


def make_app(engine: Engine, template: ChatTemplate | None) -> ASGIApp:
    """The whole server as an ASGI application; the engine is started by who runs it.

    Args:
        engine: The model.
        template: For conversations; None where the model answers in one pass.
    """

    def invocations(body: bytes, headers: Headers) -> Awaitable[Reply]:
        if template is None:
            kind = headers.get("content-type", "application/json")
            return answer_at_once(engine, body, kind)
        return invoke(engine, template, decoded(body), headers.get("accept", ""))

    post = partial(_post, engine)
    lmi, amazon = _refusal(lmi_error), sagemaker_api.refused
    streamed = "/endpoints/{name}/invocations-response-stream"
    routes = [
        Route("/ping", _ping(engine), methods=["GET"]),
        Route("/health", _ping(engine), methods=["GET"]),
        Route("/metrics", _metrics(engine), methods=["GET"]),
        post("/invocations", invocations, lmi),
        post("/predictions/{model}", invocations, lmi),
        post("/endpoints/{name}/invocations", invocations, amazon, sagemaker_api.whole),
        post(streamed, invocations, amazon, sagemaker_api.streamed),
    ]
    if template is not None:
        routes += _of_texts(engine, template)
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unknown_path})
    return _Counted(app, engine)


def _of_texts(engine: Engine, template: ChatTemplate) -> list[Route]:
    """The paths of a model that writes texts."""

    def tgi(path: str, *, stream: bool | None) -> Route:
        return post(path, lambda body, _: generate(engine, decoded(body), stream=stream), hf)

    post = partial(_post, engine)
    own, hf = _refusal(openai_error), _refusal(tgi_error)
    return [
        Route("/v1/models", _models(engine), methods=["GET"]),
        post("/v1/chat/completions", lambda body, _: chat(engine, template, decoded(body)), own),
        post("/v1/completions", lambda body, _: complete(engine, decoded(body)), own),
        tgi("/", stream=None),
        tgi("/generate", stream=False),
        tgi("/generate_stream", stream=True),
    ]


def _post(
    engine: Engine, path: str, answer: Answer, refuse: Refuse, render: Render | None = None
) -> Route:
    return Route(path, _Endpoint(engine, answer, render or _plain, refuse), methods=["POST"])


class _Endpoint:
    """One path: reads, asks, renders; the client may leave at any time."""

    def __init__(self, engine: Engine, answer: Answer, render: Render, refuse: Refuse) -> None:
        self._engine = engine
        self._answer = answer
        self._render = render
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._response(Request(scope, receive))
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        limits = self._engine.limits
        try:
            body = await read_body(request, limits.body_bytes, limits.patience)
            reply = await unless_gone(request, self._answer(body, request.headers))
        except Refused as refused:
            response = self._refuse(refused)
            response.headers.update(_RETRY.get(response.status_code, {}))
            if refused.status == _TOO_SLOW:
                response.headers["connection"] = "close"
            return response
        except Gone:
            return Response(status_code=_GONE)
        except Exception:  # noqa: BLE001 - becomes an answer; the server stays up
            _log.exception("a request failed")
            return self._refuse(Refused(500, "the server failed on this request; see its log"))
        return self._render(reply)


class _Counted:
    """Counts answers by path and status."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._requests = engine.metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("endpoint") and scope.get("route"), "path", "unknown")
                self._requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted if scope["type"] == "http" else send)


def _plain(reply: Reply) -> Response:
    if isinstance(reply, Whole):
        return Response(encoded(reply.content), media_type="application/json")
    return StreamingResponse(sagemaker_api.plain(reply), media_type=reply.media_type)


def _refusal(words: Callable[[Refused], dict[str, Any]]) -> Refuse:
    return lambda refused: JSONResponse(words(refused), status_code=refused.status)


def _ping(engine: Engine) -> Callable[[Request], Awaitable[Response]]:
    async def ping(request: Request) -> Response:
        del request
        healthy = engine.ready
        told = {"status": "Healthy" if healthy else "Unhealthy"}
        return JSONResponse(told, status_code=200 if healthy else 503)

    return ping


def _metrics(engine: Engine) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        del request
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    return metrics


def _models(engine: Engine) -> Callable[[Request], Awaitable[Response]]:
    async def listed(request: Request) -> Response:
        del request
        return JSONResponse(models(engine))

    return listed


async def _unknown_path(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    told = f"{request.method} {request.url.path[:80]}: {error.detail}"
    content = {"code": error.status_code, "error": told}
    return JSONResponse(content, status_code=error.status_code, headers=error.headers)
