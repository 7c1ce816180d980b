"""An independent load client: locust, asking and timing with its own code and the requests library.

Run by bench_agreement.py: `locust -f locust_client.py --headless ...`; it writes every answer's
times to the file that LOCUST_TIMES names. Nothing of lmi_compile is imported.
"""

import json
import os
import time
from pathlib import Path

from locust import HttpUser, constant, events, task

_PROMPTS = json.loads(os.environ["LOCUST_PROMPTS"])
_TOKENS = int(os.environ["LOCUST_TOKENS"])
_FOUND: list[tuple[float, float, float, int]] = []


class Client(HttpUser):
    """Asks, reads the whole streamed answer, asks again."""

    wait_time = constant(0)
    number = 0

    @task
    def ask(self) -> None:
        """One request."""
        Client.number += 1
        body = {
            "inputs": _PROMPTS[Client.number % len(_PROMPTS)],
            "parameters": {"max_new_tokens": _TOKENS, "do_sample": False},
            "stream": True,
        }
        started, first, tokens = time.perf_counter(), 0.0, 0
        with self.client.post("/invocations", json=body, stream=True, catch_response=True) as got:
            if got.status_code != 200:
                got.failure(str(got.status_code))
                return
            for line in got.iter_lines(chunk_size=None):
                if line and "token" in json.loads(line):
                    tokens += 1
                    first = first or time.perf_counter() - started
            got.success()
        _FOUND.append((started, first, time.perf_counter() - started, tokens))


@events.quitting.add_listener
def write(**_: object) -> None:
    """Keep what was timed."""
    Path(os.environ["LOCUST_TIMES"]).write_text(json.dumps(_FOUND), encoding="utf-8")
