"""What the control API answers when what it stands on fails: the store, its own code, a read without end."""

import asyncio
import logging

import httpx2
import pytest
from fastapi import FastAPI

from holdfast.edge.server import door
from holdfast.edge.server.api import create_api
from holdfast.edge.server.control import ApiDeps, SettingsShown
from holdfast.features.gateway.model import Measures
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.secret import Secret
from holdfast.ports.calls import CallRow
from tests.features.tenancy.conftest import START, Node, make_node
from tests.features.tenancy.memory import MemoryCalls, MemoryMoney, MemoryStore

SECRET = "bootstrap-key-of-the-tests"


class SlowCalls(MemoryCalls):
    """A store that never answers."""

    async def get(self, call_id: str) -> CallRow | None:
        await asyncio.sleep(3600)
        return None


def broken() -> SettingsShown:
    raise ZeroDivisionError("a secret stands here: hf-123")


@pytest.fixture
async def node() -> Node:
    made = make_node(MemoryStore(), SlowCalls(), MemoryMoney(), VirtualClock(START))
    await made.tenancy.bootstrap.ensure(Secret(SECRET))
    return made


def client(node: Node) -> httpx2.AsyncClient:
    api: FastAPI = create_api(ApiDeps(node.tenancy, broken, node.clock, "0.1.0", Measures()))
    transport = httpx2.ASGITransport(app=api, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://api", headers={"authorization": f"Bearer {SECRET}"})


async def test_without_the_store_reads_of_keys_go_on_and_changes_are_503(node: Node) -> None:
    node.store.away = True
    async with client(node) as asking:
        assert (await asking.get("/api/keys")).status_code == 200
        for refused in (await asking.post("/api/keys", json={"name": "x"}), await asking.get("/api/audit")):
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["content-type"] == "application/problem+json"
        (finding,) = (await asking.get("/api/findings")).json()["findings"]
        assert finding["code"] == "directory_stale"
        node.store.away = False
        assert (await asking.post("/api/keys", json={"name": "x"})).status_code == 201
        assert (await asking.get("/api/findings")).json()["findings"] == []


async def test_a_store_that_goes_away_after_the_commit_hides_no_secret(node: Node) -> None:
    commit = node.store.apply

    def away_after(*changes: object) -> None:
        commit(*changes)  # type: ignore[arg-type]
        node.store.away = True

    node.store.apply = away_after  # type: ignore[method-assign]
    async with client(node) as asking:
        made = await asking.post("/api/keys", json={"name": "x", "role": "viewer"})
        assert made.status_code == 201
        node.store.away = False
        await node.tenancy.catalogue.refresh()
        seen = await asking.get("/api/whoami", headers={"authorization": f"Bearer {made.json()['secret']}"})
        assert seen.json()["key_id"] == made.json()["id"]


async def test_a_defect_is_a_500_that_says_its_request_and_nothing_else(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with client(node) as asking:
        answer = await asking.get("/api/settings", headers={"x-request-id": "find-me"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers["x-request-id"], answer.headers["cache-control"]) == ("find-me", "no-store")
    assert "find-me" in answer.json()["detail"]
    assert "hf-123" not in answer.text


async def test_a_read_without_end_is_stopped(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "READ_SECONDS", 0.02)
    async with client(node) as asking:
        answer = await asking.get("/api/calls/call_" + "0" * 32)
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["cache-control"] == "no-store"
