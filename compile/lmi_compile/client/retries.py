"""Asking again: what is worth it, and how long to wait before."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from lmi_compile.client.transport import Refused, Transport, Unreachable

# Throttled, not ready yet, overloaded: HTTP 429, 503, 502 and 504 of a proxy in between.
WORTH_IT: Final = frozenset({429, 502, 503, 504, 530})
_BASE_SECONDS, _MOST_SECONDS = 0.25, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how patiently.

    Attributes:
        times: after the first try.
        random: uniform in [0, 1).
        sleep: waits so many seconds.
    """

    times: int = 6
    random: Callable[[], float] = random.random
    sleep: Callable[[float], None] = time.sleep

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before try `attempt` (from 1): full jitter, never less than the server asked.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        most = min(_MOST_SECONDS, _BASE_SECONDS * 2.0**attempt)
        return (asked or 0.0) + self.random() * most


def ask_again(transport: Transport, body: bytes, retries: Retries) -> Iterator[bytes]:
    """Ask until it is answered; an answer that has begun is never asked for twice.

    Raises:
        Refused, Unreachable: the last failure, or one that another try cannot mend.
    """
    for attempt in range(1, retries.times + 2):
        begun = False
        try:
            for block in transport.ask(body):
                begun = True
                yield block
        except (Refused, Unreachable) as error:
            asked = error.retry_after if isinstance(error, Refused) else None
            hopeless = isinstance(error, Refused) and error.status not in WORTH_IT
            if begun or hopeless or attempt > retries.times:
                raise
            retries.sleep(retries.pause(attempt, asked))
        else:
            return
