"""The control API over the embedded engine, on a socket, in a thread with a loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import uvicorn

from holdfast.edge.server.api import create_api
from holdfast.edge.server.control import ApiDeps, SettingsShown
from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.features.gateway.model import Measures
from holdfast.features.tenancy.settings import KeySettings, OrganisationSettings, TenancySettings
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.findings import Findings
from holdfast.kernel.secret import Secret
from holdfast.ports.record import Change

BOOTSTRAP = "bootstrap-key-of-the-tests"
SHOWN = SettingsShown({"upstreams": {"mock": {"key": "***"}}}, {"upstreams.mock.key": "holdfast.toml:2"})


@dataclass(frozen=True)
class Declared:
    """What the settings file says."""

    organisations: Mapping[str, OrganisationSettings]
    keys: Mapping[str, KeySettings]
    origins: Mapping[str, str]


NOTHING = Declared({}, {}, {})


class Control:
    """A running control API. `client` holds the bootstrap key."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, engine: Embedded, findings: Findings, measures: Measures
    ) -> None:
        self.url = url
        self.findings = findings
        self.measures = measures
        self._loop = loop
        self._engine = engine
        self._clients: list[httpx2.Client] = []
        self.client = self.as_key(BOOTSTRAP)

    def as_key(self, secret: str | None) -> httpx2.Client:
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        self._clients.append(httpx2.Client(base_url=self.url, headers=headers, trust_env=False))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def make_key(self, name: str, **fields: object) -> httpx2.Client:
        """A client with a key of its own."""
        answer = self.client.post("/api/keys", json={"name": name, **fields})
        assert answer.status_code == 201, answer.text
        return self.as_key(answer.json()["secret"])

    def commit(self, *changes: Change) -> None:
        """Put rows into the store, as the gateway would."""
        asyncio.run_coroutine_threadsafe(self._engine.record.commit(*changes), self._loop).result(10)


@contextlib.asynccontextmanager
async def _serving(
    data: Path, declared: Declared, measures: Measures
) -> AsyncIterator[tuple[uvicorn.Server, Embedded, Findings]]:
    clock = SystemClock()
    findings = Findings(clock)
    engine = await open_embedded(data, clock=clock)
    tenancy = Tenancy(
        TenancySettings(),
        directory=engine.directory,
        record=engine.record,
        calls=engine.calls,
        money=engine.money,
        findings=findings,
        clock=clock,
    )
    await tenancy.catalogue.refresh()
    await tenancy.catalogue.apply_file(declared.organisations, declared.keys, declared.origins)
    await tenancy.bootstrap.ensure(Secret(BOOTSTRAP))
    following = asyncio.create_task(tenancy.follow())
    api = create_api(ApiDeps(tenancy, lambda: SHOWN, clock, "0.1.0", measures))
    server = uvicorn.Server(
        uvicorn.Config(api, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off")
    )
    try:
        yield server, engine, findings
    finally:
        following.cancel()
        await engine.close()


@contextlib.contextmanager
def control(data: Path, declared: Declared = NOTHING) -> Iterator[Control]:
    ready: list[Control] = []
    stop: list[uvicorn.Server] = []
    known = threading.Event()

    async def run() -> None:
        measures = Measures()
        async with _serving(data, declared, measures) as (server, engine, findings):
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn says it by this flag alone
                await asyncio.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            ready.append(Control(f"http://127.0.0.1:{port}", loop, engine, findings, measures))
            stop.append(server)
            known.set()
            await serving

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert known.wait(20), "the control API did not start"
    try:
        yield ready[0]
    finally:
        ready[0].close()
        stop[0].should_exit = True
        thread.join(20)
