"""The model API: path -> verb. Decode, call, encode; everything else happens in the gateway."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from holdfast.edge.server.exchange import JSON_LINE, Exchange
from holdfast.edge.server.model_contract import written
from holdfast.features.gateway.identify import offered
from holdfast.features.gateway.model import CHAT, EMBEDDINGS, Gateway, Model, Operation, Request
from holdfast.features.gateway.path import answer
from holdfast.kernel.errors import InvalidRequestError, MethodNotAllowedError, NotFoundError, UnknownModelError

Verb = Callable[[Gateway, Exchange, dict[bytes, bytes]], Awaitable[None]]

OWN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
ONCE = frozenset({b"authorization", b"api-key", b"host", b"content-type", b"x-request-id", b"x-holdfast-route"})


def route(gateway: Gateway, exchange: Exchange) -> Awaitable[None]:
    """The verb for this exchange, called; raises where there is none."""
    named = headers_by_name(exchange)
    own = named.get(b"x-request-id")
    if own is not None and OWN_ID.fullmatch(own):
        exchange.request_id = own.decode()
    path, _, _ = exchange.url.partition(b"?")
    found = TABLE.get(path)
    if found is None and path.startswith(b"/v1/models/"):
        found = (b"GET", one_model)
    if found is None:
        raise NotFoundError(f"There is no {path.decode('ascii', 'replace')[:200]} here; docs/api.md lists what is.")
    method, verb = found
    if exchange.method != method and not (method == b"GET" and exchange.method == b"HEAD"):
        allow = "GET, HEAD" if method == b"GET" else method.decode()
        raise MethodNotAllowedError(f"{path.decode('ascii', 'replace')[:200]} takes {allow} only.", allow=allow)
    return verb(gateway, exchange, named)


def asked(operation: Operation) -> Verb:
    """The verb of a model call."""

    def verb(gateway: Gateway, exchange: Exchange, named: dict[bytes, bytes]) -> Awaitable[None]:
        route_name = named.get(b"x-holdfast-route")
        return answer(
            gateway,
            Request(
                exchange.id,
                exchange.request_id,
                operation,
                credential(named),
                exchange.headers,
                bytes(exchange.body),
                exchange,
                exchange.received,
                route_name.decode("latin-1") if route_name is not None else None,
            ),
        )

    return verb


async def all_models(gateway: Gateway, exchange: Exchange, named: dict[bytes, bytes]) -> None:
    models = [spelt(model) for model in offered(gateway, credential(named))]
    exchange.whole(200, JSON_LINE, msgspec.json.encode({"object": "list", "data": models}))


async def one_model(gateway: Gateway, exchange: Exchange, named: dict[bytes, bytes]) -> None:
    name = unquote(exchange.url.partition(b"?")[0].removeprefix(b"/v1/models/").decode("ascii", "replace"))
    for model in offered(gateway, credential(named)):
        if model.name == name:
            exchange.whole(200, JSON_LINE, msgspec.json.encode(spelt(model)))
            return
    raise UnknownModelError(f"The model `{name[:200]}` does not exist or this key may not use it.", param="model")


async def contract(gateway: Gateway, exchange: Exchange, named: dict[bytes, bytes]) -> None:
    exchange.whole(200, JSON_LINE, written())


TABLE: dict[bytes, tuple[bytes, Verb]] = {
    b"/v1/chat/completions": (b"POST", asked(CHAT)),
    b"/v1/embeddings": (b"POST", asked(EMBEDDINGS)),
    b"/v1/models": (b"GET", all_models),
    b"/v1/openapi.json": (b"GET", contract),
}


def spelt(model: Model) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created_at, "owned_by": "holdfast"}


def headers_by_name(exchange: Exchange) -> dict[bytes, bytes]:
    """The headers by name; one that decides something and is there twice is refused."""
    named = dict(exchange.headers)
    if len(named) != len(exchange.headers):
        seen: set[bytes] = set()
        for name, _ in exchange.headers:
            if name in seen and name in ONCE:
                raise InvalidRequestError(f"The header {name.decode('latin-1')} is there more than once.")
            seen.add(name)
    if b"host" not in named and exchange.http11:
        raise InvalidRequestError("The header Host is missing.")
    return named


def credential(named: dict[bytes, bytes]) -> str | None:
    """The API key: `Authorization: Bearer KEY`, or `api-key: KEY`."""
    value = named.get(b"authorization")
    if value is None:
        value = named.get(b"api-key")
        return value.decode("latin-1") if value is not None else None
    scheme, _, secret = value.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return secret.strip().decode("latin-1")
