"""An upstream that costs next to nothing: one constant answer a request, or a stream of constant chunks.

`python tests/benchmarks/constant.py` prints its port. A path that ends in `/stream/N/K` is answered with N writes of K chunks.
"""

import asyncio
import sys
from typing import cast

import uvloop

BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"A constant answer of a reasonable length."},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":12}}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: constant\r\ndate: Fri, 20 Nov 2026 12:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"x-request-id: req_123\r\nopenai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 1000\r\n"
    b"x-ratelimit-remaining-requests: 999\r\nconnection: keep-alive\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
)
FRAME = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
    b'"choices":[{"index":0,"delta":{"content":" hello"},"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Constant(asyncio.Protocol):
    """Requests must come one at a time, each within one read: what the bench sends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"POST "):
            return
        path = data[5 : data.index(b" ", 5)]
        if b"/stream/" in path:
            writes, chunks = path.rsplit(b"/", 2)[1:]
            self.transport.write(STREAM_HEAD)
            asyncio.get_running_loop().call_soon(self._stream, int(writes), CHUNK * int(chunks))
        else:
            self.transport.write(ANSWER)

    def _stream(self, left: int, data: bytes) -> None:
        if left == 0:
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(data)
        asyncio.get_running_loop().call_soon(self._stream, left - 1, data)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
