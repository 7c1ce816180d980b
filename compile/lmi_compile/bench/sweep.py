"""The sweep: one load process for each concurrency, results kept so that a killed run goes on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lmi_artifacts.digest import canonical_json, digest_bytes
from lmi_artifacts.foreign import parse_json
from lmi_compile.bench.figures import knee, level_figures
from lmi_compile.client.invoking import request_body, translated
from lmi_compile.client.pieces import documents, piece_of
from lmi_compile.client.target import Target
from lmi_compile.client.transport import Refused, Unreachable
from lmi_compile.errors import EndpointFailed, EnvironmentFault, OurBug

FORMAT: Final = 1
Say = Callable[[str], None]
_GRACE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is measured; two runs with the same can be compared.

    Attributes:
        subject: what was named on the command line, an artifact by its full reference.
        concurrencies: in order.
        input_tokens: of every prompt.
        counted_by: how: `the model's tokenizer`, or `words`.
        output_tokens: asked for in every answer.
        warmup_seconds: before each window.
        seconds: of each window.
        parameters: of generation, beside max_new_tokens.
    """

    subject: str
    concurrencies: tuple[int, ...]
    input_tokens: int
    counted_by: str
    output_tokens: int
    warmup_seconds: float
    seconds: float
    parameters: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Names the run: what a level depends on, not how many levels there are."""
        fields = {**asdict(self), "concurrencies": None}
        return digest_bytes(canonical_json(_exact(fields))).hex[:12]

    def request_parameters(self, target: Target) -> dict[str, Any]:
        """Parameters of one request, by the schema of where it goes."""
        chat = target.where.rstrip("/").endswith("/completions")
        name = "max_tokens" if chat else "max_new_tokens"
        return {name: self.output_tokens, **self.parameters}


def _exact(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """Floats as text: canonical JSON has none."""
    match value:
        case float():
            return repr(value)
        case Mapping():
            return {key: _exact(item) for key, item in value.items()}
        case list() | tuple():
            return [_exact(item) for item in value]
        case _:
            return value


def run_sweep(
    asked: Asked,
    target: Callable[[], Target],
    prompts: Sequence[str],
    folder: Path,
    say: Say,
) -> list[dict[str, Any]]:
    """Measure every level that is not measured yet.

    Args:
        asked: what is measured.
        target: gives where, when the first request is needed.
        prompts: the inputs.
        folder: one file for each finished level.
        say: where progress goes.

    Returns:
        What the load generator wrote, level by level.

    Raises:
        CompileError: the server cannot be reached, or refuses the first request.
    """
    found: list[dict[str, Any]] = []
    for concurrency in asked.concurrencies:
        path = folder / f"level-{concurrency}.json"
        kept = read_json(path)
        if kept is not None:
            say(f"concurrency {concurrency}: measured already")
            found.append(kept)
            continue
        place = target()
        took = asked.warmup_seconds + asked.seconds
        say(f"concurrency {concurrency}: measuring for {took:g} s")
        raw = _put_on(place, asked, prompts, concurrency)
        write_json(path, raw)
        shown = level_figures(raw, None)
        say(_line(shown))
        found.append(raw)
    return found


def first_answer(target: Target, asked: Asked, prompt: str) -> dict[str, float]:
    """Ask once and time it; also says at once when nothing can be measured there.

    Raises:
        CompileError: no whole answer.
    """
    transport = target.open(stream=True)
    body = request_body(
        prompt,
        asked.request_parameters(target),
        stream=True,
        chat=target.where.rstrip("/").endswith("/chat/completions"),
    )
    started = time.perf_counter()
    first = None
    try:
        for document in documents(transport.ask(body)):
            piece = piece_of(document)
            if piece.error is not None:
                raise EndpointFailed(f"{target.where} broke off", piece.error)
            if piece.tokens and first is None:
                first = time.perf_counter() - started
    except (Refused, Unreachable) as failure:
        raise translated(target, failure) from failure
    finally:
        transport.close()
    if first is None:
        what = f"{target.where} answered without a token that can be timed"
        raise EndpointFailed(what, fix="give the URL of a path that streams")
    return {"time_to_first_token": first, "latency": time.perf_counter() - started}


def _put_on(
    target: Target, asked: Asked, prompts: Sequence[str], concurrency: int
) -> dict[str, Any]:
    load = {
        "target": asdict(target),
        "prompts": list(prompts),
        "parameters": asked.request_parameters(target),
        "concurrency": concurrency,
        "warmup_seconds": asked.warmup_seconds,
        "seconds": asked.seconds,
    }
    limit = asked.warmup_seconds + asked.seconds + _GRACE_SECONDS
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lmi_compile.bench.load"],
            input=json.dumps(load),
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        )
        raw: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        what = f"the load at concurrency {concurrency} did not end in {limit:.0f} s"
        raise EndpointFailed(what, fix="look at what is served") from error
    except subprocess.CalledProcessError as error:
        what = f"the load generator ended with {error.returncode}"
        raise OurBug(what, error.stderr[-1000:], "report it") from error
    return raw


def report(
    asked: Asked,
    raw: Sequence[Mapping[str, Any]],
    *,
    price: float | None,
    starts: Mapping[str, Any],
    when: str,
) -> dict[str, Any]:
    """The whole run as one JSON object."""
    levels = [level_figures(one, price) for one in raw]
    return {
        "format": FORMAT,
        "when": when,
        "asked": {**asdict(asked), "digest": asked.digest},
        "price_per_hour": price,
        "starts": dict(starts),
        "levels": levels,
        "knee": knee(levels),
    }


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a file that `write_json` wrote; None where there is none.

    Raises:
        EnvironmentFault: it cannot be read, or is not JSON.
    """
    try:
        found: dict[str, Any] = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        fix = "remove it, or say --fresh"
        raise EnvironmentFault(f"{path} cannot be read", str(error), fix) from error
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole or not at all.

    Raises:
        EnvironmentFault: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(value) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error


def _line(level: Mapping[str, Any]) -> str:
    tokens = level["tokens_per_second"]["value"]
    first, gap = level["time_to_first_token"]["p50"], level["inter_token"]["p50"]
    text = f"concurrency {level['concurrency']}: {tokens:,.1f} tokens/s"
    if first:
        text += f", first token {first['value'] * 1000:,.0f} ms"
    if gap:
        text += f", between tokens {gap['value'] * 1000:,.1f} ms"
    if not level["latency"]["mean"]:
        text += "; no whole answer came: measure for more --seconds"
    if level["error_rate"]:
        text += f", {level['error_rate']:.1%} errors"
    return text + (" (the load generator is saturated)" if level["generator"]["saturated"] else "")
