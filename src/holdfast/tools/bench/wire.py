"""The bytes of a call: requests built once and patched unique in place, answers read with as little as makes sure of them."""

import os
import re
import socket
from urllib.parse import urlsplit

import httptools
import msgspec

NUMBER_DIGITS = 12
BODY_BYTES = 1024
PATH = "/chat/completions"
LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
FILLER = (
    "The customer writes that the parcel was marked as delivered on Tuesday, but nobody at the address had received it, and the "
    "neighbours had not either. Find out what most likely happened, say what we can offer under the terms, and draft a short, "
    "friendly answer in plain words that names the next step and when it will happen. "
)


class Address(msgspec.Struct, frozen=True):
    """Where a system under test answers, and as whom we ask."""

    host: str
    port: int
    prefix: str = "/v1"
    key: str = ""
    model: str = "mock"


def address_of(url: str, *, key: str = "", model: str = "mock") -> Address:
    """An OpenAI base URL, with or without its /v1, as an address. Plain HTTP only: TLS would measure TLS."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// URL; the bench speaks plain HTTP")
    return Address(parts.hostname, parts.port or 80, parts.path.rstrip("/") or "/v1", key, model)


class RequestBuffer:
    """One connection's request: `data` holds it whole, and `data[start:end]` is the number that makes it unique."""

    __slots__ = ("data", "end", "start")

    def __init__(self, address: Address, *, max_tokens: int = 256, stream: bool = False) -> None:
        mark = "0" * NUMBER_DIGITS
        body = _body(address.model, mark, max_tokens, stream)
        head = (
            f"POST {address.prefix}{PATH} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
            f"Authorization: Bearer {address.key or 'none'}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: holdfast-bench\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.data = bytearray(head.encode() + body)
        self.start = self.data.index(b"call-" + mark.encode()) + len("call-")
        self.end = self.start + NUMBER_DIGITS

    def number(self, number: int) -> bytearray:
        self.data[self.start : self.end] = b"%012d" % number
        return self.data


def _body(model: str, mark: str, max_tokens: int, stream: bool) -> bytes:
    """About 1 KB of chat completion; the random nonce keeps it apart from every other run's."""
    question = f"call-{mark} {os.urandom(8).hex()} "
    wanted: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You help the support desk of a shop. Be brief and exact."},
            {"role": "user", "content": question},
        ],
        "temperature": 0.7,
        "max_tokens": max_tokens,
    }
    if stream:
        wanted["stream"] = True
    missing = BODY_BYTES - len(msgspec.json.encode(wanted))
    wanted["messages"] = [
        {"role": "system", "content": "You help the support desk of a shop. Be brief and exact."},
        {"role": "user", "content": question + (FILLER * 5)[: max(missing, 0)]},
    ]
    return msgspec.json.encode(wanted)


class AnswerReader:
    """Reads whole answers of one connection. `feed` says how many ended with these bytes, and `status` and `body_bytes`
    are of the last. It is the careful way; the load generator has a short cut for an answer that came in one piece."""

    __slots__ = ("_ended", "_parser", "body_bytes", "busy", "status", "text")

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._ended = 0
        self.busy = False
        self.status = 0
        self.body_bytes = 0
        self.text = b""

    def feed(self, data: bytes) -> int:
        """Raises httptools.HttpParserError when this is not HTTP."""
        self._ended = 0
        self._parser.feed_data(data)
        return self._ended

    def verdict(self) -> str:
        """The last answer in a line, for whoever has to find out what was wrong with it."""
        return f"{self.status}: {self.text[:400].decode(errors='replace')}"

    def on_message_begin(self) -> None:
        self.busy = True
        self.body_bytes = 0
        self.text = b""

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if len(self.text) < 2048:
            self.text += body

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.busy = False
        self._ended += 1


def length_line(answer: bytes) -> tuple[bytes, int]:
    """The Content-Length line as this server spells it, and its number; (b"", -1) when the answer has none."""
    found = LENGTH_LINE.search(answer[: answer.find(b"\r\n\r\n") + 2])
    return (found.group(0), int(found.group(1))) if found else (b"", -1)


def dial(address: Address, timeout_seconds: float = 10.0) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), timeout=timeout_seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def constant_answer() -> bytes:
    """A whole chat completion of an ordinary length, as a provider would send it."""
    text = "I am sorry that the parcel has not turned up. Please look with the neighbours once more; we will ask the carrier today. "
    answer = {
        "id": "chatcmpl-bench00000000000000000000",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text * 2, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 230,
            "completion_tokens": 56,
            "total_tokens": 286,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "system_fingerprint": "fp_bench",
    }
    return msgspec.json.encode(answer)
