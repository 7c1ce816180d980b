"""Asking several prompts at once, with retries, and putting the answers back in order."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

from lmi_artifacts.digest import JSONValue
from lmi_compile.client.pieces import documents, piece_of
from lmi_compile.client.retries import Retries, ask_again
from lmi_compile.client.target import Target
from lmi_compile.client.transport import Refused, Unreachable
from lmi_compile.errors import CompileError, EndpointFailed, RequestRefused, Transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one prompt was answered with.

    Attributes:
        prompt: as it was asked.
        text: the generated text.
        tokens: how many pieces or tokens the answer said it has.
        finish_reason: why it stopped, where it said so.
        error: why there is no whole answer, or None.
    """

    prompt: str
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    error: CompileError | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """Give the answer as a JSON object."""
        shown: dict[str, JSONValue] = {
            "prompt": self.prompt,
            "generated_text": self.text,
            "tokens": self.tokens,
            "finish_reason": self.finish_reason,
        }
        return shown if self.error is None else {**shown, "error": str(self.error)}


def request_body(
    prompt: str, parameters: Mapping[str, JSONValue], *, stream: bool, chat: bool = False
) -> bytes:
    """A request of the LMI schema, or of OpenAI's chat schema."""
    if chat:
        messages: JSONValue = [{"role": "user", "content": prompt}]
        body: dict[str, JSONValue] = {"messages": messages, "stream": stream, **parameters}
    else:
        body = {"inputs": prompt, "parameters": dict(parameters), "stream": stream}
    return json.dumps(body, ensure_ascii=False).encode("utf-8")


def invoke_all(
    target: Target,
    prompts: Sequence[str],
    parameters: Mapping[str, JSONValue],
    *,
    stream: bool,
    concurrency: int,
    retries: Retries,
    heard: Callable[[str], None],
) -> Iterator[Answer]:
    """Ask every prompt, `concurrency` at a time; gives the answers in the prompts' order.

    Args:
        target: where; not an artifact.
        prompts: the inputs.
        parameters: of generation, as the LMI schema names them.
        stream: ask for the answer in pieces.
        concurrency: requests under way at once.
        retries: for what is worth a second try.
        heard: is given each piece of text as it arrives; only useful for one prompt.
    """
    chat = target.kind == "url" and target.where.rstrip("/").endswith("/chat/completions")

    def ask(prompt: str) -> Answer:
        body = request_body(prompt, parameters, stream=stream, chat=chat)
        return _asked(target, prompt, body, stream=stream, retries=retries, heard=heard)

    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        yield from pool.map(ask, prompts)


def _asked(
    target: Target,
    prompt: str,
    body: bytes,
    *,
    stream: bool,
    retries: Retries,
    heard: Callable[[str], None],
) -> Answer:
    transport = target.open(stream=stream)
    text, tokens, reason, error = "", 0, None, None
    try:
        for document in documents(ask_again(transport, body, retries)):
            piece = piece_of(document)
            if piece.error is not None:
                error = EndpointFailed(f"{target.where} broke off", piece.error)
                break
            text = piece.whole if piece.whole is not None else text + piece.text
            tokens += piece.tokens
            reason = piece.finish_reason or reason
            heard(piece.text)
    except (Refused, Unreachable) as failure:
        return Answer(prompt=prompt, text=text, error=translated(target, failure))
    finally:
        transport.close()
    return Answer(prompt=prompt, text=text, tokens=tokens, finish_reason=reason, error=error)


def translated(target: Target, failure: Refused | Unreachable) -> CompileError:
    """Whose fault a failure is, by HTTP's status."""
    where = target.where
    if isinstance(failure, Unreachable):
        fix = "see that it runs, then try again"
        return Transient(f"{where} did not answer", str(failure), fix)
    what = f"{where} answered {failure.status}"
    if failure.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return Transient(f"{what}: it is busy", failure.said, "try again, or add instances")
    caller = failure.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if caller and failure.status != HTTPStatus.FAILED_DEPENDENCY:
        return RequestRefused(what, failure.said, "correct the request")
    return EndpointFailed(what, failure.said, "look at the container's log")
