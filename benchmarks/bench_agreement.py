"""Does `bench` measure what an independent client measures? locust and bench in turns.

    python benchmarks/bench_agreement.py [--url http://127.0.0.1:8080] [--concurrency 4]

Without --url a small streaming server of the tests is measured, at 12 tokens a second and client:
locust spends so much of its own processor on a token that at 100 it measures itself. Each round
runs both for the same time at the same concurrency, in alternating order; the figure is the median
over the rounds of bench / locust. Exits 1 when one of them is further than 10 % from 1.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmi_compile.bench.figures import level_figures
from lmi_compile.bench.prompts import make_prompts

_HERE = Path(__file__).parent
_TOLERANCE = 0.10
_NAMES = ("tokens/s", "requests/s", "first token p50", "answer p50")


def bench(url: str, options: argparse.Namespace, prompts: tuple[str, ...]) -> tuple[float, ...]:
    """One window of our own load generator."""
    load = {
        "target": {"kind": "url", "where": f"{url}/invocations"},
        "prompts": prompts,
        "parameters": {"max_new_tokens": options.tokens, "do_sample": False},
        "concurrency": options.concurrency,
        "warmup_seconds": options.warmup,
        "seconds": options.seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "lmi_compile.bench.load"],
        input=json.dumps(load), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = level_figures(json.loads(done.stdout), None)
    assert not found["error_rate"], found["errors"]
    return (
        found["tokens_per_second"]["value"],
        found["requests_per_second"],
        found["time_to_first_token"]["p50"]["value"],
        found["latency"]["p50"]["value"],
    )


def locust(url: str, options: argparse.Namespace, prompts: tuple[str, ...]) -> tuple[float, ...]:
    """The same by locust; its first `warmup` seconds are left out, too."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        seconds = options.warmup + options.seconds + 8  # users start late on a busy machine
        subprocess.run(
            [
                sys.executable, "-m", "locust", "-f", str(_HERE / "locust_client.py"),
                "--headless", "--only-summary", "-u", str(options.concurrency),
                "-r", str(options.concurrency), "-t", f"{seconds:.0f}s", "--host", url,
            ],
            env={
                **os.environ,
                "LOCUST_TIMES": str(times),
                "LOCUST_PROMPTS": json.dumps(prompts),
                "LOCUST_TOKENS": str(options.tokens),
            },
            capture_output=True, check=True,
        )  # fmt: skip
        found = json.loads(times.read_text(encoding="utf-8"))
    begin = min(started for started, *_ in found) + options.warmup
    end = begin + options.seconds
    ended = [one for one in found if begin <= one[0] + one[2] < end]
    inside = [one for one in found if begin <= one[0] < end]
    return (
        sum(one[3] for one in ended) / options.seconds,
        len(ended) / options.seconds,
        statistics.median(one[1] for one in inside),
        statistics.median(one[2] for one in inside),
    )


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The one that is measured."""
    if url is not None:
        yield url.rstrip("/")
        return
    sys.path.insert(0, str(_HERE.parent / "tests" / "servers"))
    from streaming import streaming  # noqa: PLC0415 - only when it is measured

    with streaming("--slots", "8", "--step-ms", "80", "--prefill-ms", "400") as found:
        yield found


def main() -> int:
    """Alternate, compare, say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--warmup", type=float, default=2)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    prompts, _ = make_prompts(16, None)
    ratios: list[list[float]] = []
    with server(options.url) as url:
        for number in range(options.rounds):
            order = (bench, locust) if number % 2 == 0 else (locust, bench)
            found = {run: run(url, options, prompts) for run in order}
            pairs = list(zip(found[bench], found[locust], strict=True))
            ratios.append([one / other for one, other in pairs])
            shown = ", ".join(
                f"{n} {a:.4g} / {b:.4g}" for n, (a, b) in zip(_NAMES, pairs, strict=True)
            )
            print(f"round {number + 1} (bench / locust): {shown}", flush=True)
    worst = 0.0
    for name, column in zip(_NAMES, zip(*ratios, strict=True), strict=True):
        middle = statistics.median(column)
        worst = max(worst, abs(middle - 1))
        print(
            f"{name}: bench / locust = {middle:.3f} (rounds {min(column):.3f} to {max(column):.3f})"
        )
    print(f"{'within' if worst <= _TOLERANCE else 'NOT within'} {_TOLERANCE:.0%}")
    return 0 if worst <= _TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
