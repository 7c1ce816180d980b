"""The pipes between rank 0 and the others: whole messages, and no wait without an end."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

import pytest

from lmi_compile.backends.aoti.runtime import ranks

LONG = bytes(range(256)) * 4096  # 1 MiB, more than a pipe holds


@contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as out, os.fdopen(writing, "wb") as into:
        yield out, into


def test_a_message_larger_than_the_pipe_arrives_whole() -> None:
    with _pipe() as (out, into):
        sender = threading.Thread(target=ranks._send, args=(into, LONG))
        sender.start()
        found = ranks._receive(out, len(LONG))
        sender.join()
    assert found == LONG


def test_who_neither_reads_nor_writes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_TIMEOUT", timedelta(milliseconds=50))
    with _pipe() as (out, into), pytest.raises(TimeoutError, match="nothing moved"):
        ranks._send(into, LONG)
    with _pipe() as (out, _), pytest.raises(TimeoutError, match="nothing moved"):
        ranks._receive(out, 1)


def test_an_end_in_the_middle_of_an_answer_is_an_error() -> None:
    with _pipe() as (out, into):
        into.write(b"half")
        into.close()
        with pytest.raises(ConnectionError, match="missing"):
            ranks._receive(out, 8)
