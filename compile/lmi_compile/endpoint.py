"""Asks a running endpoint the reference's prompts, by the LMI schema over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from safetensors.torch import load_file  # noqa: TID253 - imported by a worker only

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.foreign import parse_json
from lmi_compile.errors import EnvironmentFault, VerificationFailed

_SECONDS = 300
_LONGEST_ANSWER = 64 * 2**20


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `answers.json`: ids, finish reasons and log-probabilities, prompt by prompt.

    An endpoint takes text, so only prompts are asked whose text makes exactly their tokens.

    Args:
        params: `url`; without a path, `/invocations` is added.
        inputs: `reference`.
        out: receives the file.

    Raises:
        EnvironmentFault: the endpoint cannot be reached.
        VerificationFailed: it answers with an error, or by another schema.
    """
    url = invocations(str(params["url"]))
    listing = json.loads((inputs["reference"] / "prompts.json").read_bytes())
    given = load_file(inputs["reference"] / "prompts.safetensors")
    answers = []
    for index, prompt in enumerate(listing["prompts"]):
        asked, own = given[f"{index:03d}.input_ids"], given[f"{index:03d}.text_ids"]
        if asked.tolist() != own.tolist():
            continue
        answer = _ask(url, prompt["text"], len(given[f"{index:03d}.forced_ids"]))
        answers.append({"id": prompt["id"], **_read(url, prompt["id"], answer)})
        print(f"prompt {prompt['id']}: {len(answers[-1]['ids'])} tokens", flush=True)  # noqa: T201 - progress for the log
    content = {"format": 2, "prompts_digest": listing["digest"], "prompts": answers}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (out / "answers.json").write_text(text + "\n", encoding="utf-8")


def invocations(url: str) -> str:
    """The address that prompts are posted to."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return url if path else f"{scheme}://{host}{slash or '/'}invocations"


def _ask(url: str, text: str, tokens: int) -> Any:  # noqa: ANN401 - it is checked by _read
    parameters = {"max_new_tokens": tokens, "do_sample": False, "details": True}
    body = json.dumps({"inputs": text, "parameters": parameters}).encode()
    request = urllib.request.Request(  # noqa: S310 - the user named the address
        url, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310 - as above
            raw = response.read(_LONGEST_ANSWER)
    except urllib.error.HTTPError as error:
        with error:
            told = error.read(500).decode(errors="replace")
        what = f"{url} answers {error.code}"
        raise VerificationFailed(what, told, "look at the endpoint's own log") from None
    except (OSError, HTTPException) as error:
        what = f"the endpoint {url} cannot be asked"
        raise EnvironmentFault(what, str(error), "start it, or name another address") from None
    try:
        return parse_json(raw)
    except ValueError as error:
        raise VerificationFailed(f"{url} does not answer with JSON", str(error)) from None


def _read(url: str, prompt: str, answer: Any) -> dict[str, Any]:  # noqa: ANN401 - foreign JSON
    """The parts of an answer that are judged.

    Handlers name a token's log-probability `log_prob` or `logprob`, or leave it out.
    """
    match answer:
        case [{"generated_text": str()} as one] | ({"generated_text": str()} as one):
            pass
        case _:
            one = {}
    match one.get("details"):
        case {"tokens": [{"id": int()}, *_] as tokens} as details:
            told = [each.get("log_prob", each.get("logprob")) for each in tokens]
            numbers = all(isinstance(each, int | float) for each in told)
            return {
                "ids": [int(each["id"]) for each in tokens],
                "log_probs": told if numbers else None,
                "pieces": [str(each.get("text", "")) for each in tokens],
                "finish_reason": str(details.get("finish_reason")),
            }
        case _:
            what = f"{url} does not answer prompt {prompt} by the LMI schema with details"
            why = "wanted: generated_text, and details.tokens with an id each"
            fix = "serve it with a handler that answers `details: true`"
            raise VerificationFailed(what, why, fix)
