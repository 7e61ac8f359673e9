"""HTTP/1.1 by hand, so that the load costs little beside what it loads."""

from __future__ import annotations

import asyncio
import re

import msgspec

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(path: str, body: object, *, close: bool) -> bytes:
    """A POST with a JSON body."""
    data = msgspec.json.encode(body)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"connection: {'close' if close else 'keep-alive'}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def stream(port: int, asked: bytes) -> bytes:
    """Send it and read to the end; answers the last bytes. Raises for a status that is not 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asked)
    tail = await reader.read(2**16)
    assert tail.startswith(b"HTTP/1.1 200"), tail
    while data := await reader.read(2**16):
        tail = (tail + data)[-512:]
    writer.close()
    return tail


async def calls(port: int, asked: bytes, until_s: float) -> int:
    """The same request on one connection, again and again until the loop's clock says `until_s`;
    answers how many were answered."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while loop.time() < until_s:
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200"), head
        assert found, head
        await reader.readexactly(int(found[1]))
        answered += 1
    writer.close()
    return answered
