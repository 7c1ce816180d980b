"""What the server lets in, and how it says no."""

from dataclasses import dataclass


class Refused(Exception):
    """A request that gets no answer, or no whole one.

    Attributes:
        status: HTTP's number.
        error: The sentence.
    """

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server lets in.

    Attributes:
        queue: Requests that may wait for a free sequence; the next one is refused.
        seconds: An answer may take so long, waiting included.
        body_bytes: The largest request body.
        patience: Seconds that a client may take to send a request's head, and its body.
        connections: Connections at a time; further ones are answered 503.
        drain: Seconds that requests have to end after SIGTERM.
        loading: Seconds that the model may take to load.
    """

    queue: int = 64
    seconds: float = 120.0
    body_bytes: int = 6 << 20
    patience: float = 15.0
    connections: int = 1024
    drain: float = 30.0
    loading: float = 240.0
