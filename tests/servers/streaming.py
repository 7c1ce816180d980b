"""A small true model server on loopback, in a process of its own: it streams tokens it invents.

It speaks the LMI schema (`/invocations`: JSON lines when streamed, one document else), OpenAI's
chat stream (`/v1/chat/completions`: server-sent events) and `/ping`. A token costs time: one step
serves every running request at once, as continuous batching does, so that throughput grows with
concurrency until the slots are full; who comes then waits, and beyond the queue is refused.

    python tests/servers/streaming.py --slots 4 --step-ms 5 --prefill-ms 10
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Server:
    """One server's state."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.slots = asyncio.Semaphore(options.slots)
        self.waiting = 0
        self.refused = 0
        self.step = asyncio.Event()

    async def clock(self) -> None:
        while True:
            await asyncio.sleep(self.options.step_ms / 1000)
            self.step.set()
            self.step = asyncio.Event()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                length = next(
                    (int(line[15:]) for line in lines if line.lower().startswith("content-length")),
                    0,
                )
                body = await reader.readexactly(length)
                await self.request(lines[0].split()[1], body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/ping":
            return await _whole(writer, 200, {"status": "Healthy"})
        if self.refused < self.options.refuse_first:
            self.refused += 1
            return await _whole(writer, 503, {"error": "not ready"}, "Retry-After: 0\r\n")
        if self.slots.locked() and self.waiting >= self.options.queue:
            return await _whole(writer, 429, {"error": "the queue is full"})
        try:
            asked = json.loads(body)
        except ValueError as error:
            return await _whole(writer, 400, {"error": f"not JSON: {error}"})
        self.waiting += 1
        async with self.slots:
            self.waiting -= 1
            await asyncio.sleep(self.options.prefill_ms / 1000)
            await self.generate(path, asked, writer)
        return None

    async def generate(
        self, path: str, asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        count = int((asked.get("parameters") or asked).get("max_new_tokens") or 8)
        texts = [f" t{n}" for n in range(count)]
        if not asked.get("stream"):
            for _ in texts:
                await self.step.wait()
            details = {"finish_reason": "length", "generated_tokens": count}
            await _whole(writer, 200, {"generated_text": "".join(texts), "details": details})
            return
        chat = path.endswith("/chat/completions")
        kind = "text/event-stream" if chat else "application/jsonlines"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for n, text in enumerate(texts):
            await self.step.wait()
            last = n == count - 1
            if last and self.options.break_off:
                writer.close()
                return
            await _chunk(writer, _sse(text) if chat else _line(n, text, texts, last=last))
        if chat:
            await _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _line(n: int, text: str, texts: list[str], *, last: bool) -> bytes:
    line: dict[str, Any] = {"token": {"id": n, "text": text, "log_prob": -0.1}}
    if last:
        line["generated_text"] = "".join(texts)
        line["details"] = {"finish_reason": "length", "generated_tokens": len(texts)}
    return json.dumps(line).encode() + b"\n"


def _sse(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def _whole(
    writer: asyncio.StreamWriter, status: int, value: dict[str, Any], more: str = ""
) -> None:
    data = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    await writer.drain()


async def _main(options: argparse.Namespace) -> None:
    server = Server(options)
    listening = await asyncio.start_server(server.connection, "127.0.0.1", options.port)
    port = listening.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    async with listening:
        await asyncio.gather(server.clock(), listening.serve_forever())


@contextmanager
def streaming(*arguments: str) -> Iterator[str]:
    """Run the server; gives its URL."""
    with subprocess.Popen(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--step-ms", type=float, default=2.0)
    parser.add_argument("--prefill-ms", type=float, default=5.0)
    parser.add_argument("--refuse-first", type=int, default=0)
    parser.add_argument("--break-off", action="store_true")
    asyncio.run(_main(parser.parse_args()))
