"""The systems a run measures: started once, driven in turns."""

import time
from dataclasses import dataclass, field

import msgspec

from holdfast.kernel.ids import make_secret
from holdfast.tools.bench import nginx
from holdfast.tools.bench.children import Child, Children, python
from holdfast.tools.bench.configuration import (
    ADMIN_VARIABLE,
    KEY_VARIABLE,
    POSTGRES_VARIABLE,
    REDIS_VARIABLE,
    configuration,
)
from holdfast.tools.bench.options import BenchOptions
from holdfast.tools.bench.servers import Servers
from holdfast.tools.bench.wire import Address, address_of

STREAM_MODEL = "pacer"


@dataclass(frozen=True, slots=True)
class System:
    """One thing that is measured: where it takes calls, and the processes it consists of, when we know them."""

    name: str
    address: Address
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Upstreams:
    """`mock` answers a constant, `pacer` streams; `nginx` is the proxy in front of `mock`, by the same process."""

    mock: System
    pacer: System
    nginx: System | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: its calls go to the constant upstream, its streams to the paced one."""

    calls: System
    streams: System
    child: Child
    ready_seconds: float
    admin_key: str = field(repr=False)


class Ready(msgspec.Struct):
    """The line a server prints when it is ready."""

    url: str
    pid: int


def start_upstreams(children: Children, options: BenchOptions) -> Upstreams:
    """nginx when it is there; else the pacer answers the constant too, and there is no baseline."""
    rate = str(options.chunks_per_second)
    command = python("holdfast.tools.bench.pacer", "--port", str(options.pacer_port), "--rate", rate)
    ready = _ready(children.start("pacer", command))
    pacer = System("direct", address_of(ready.url, model=STREAM_MODEL), (ready.pid,))
    program = nginx.find()
    if program is None:
        return Upstreams(System("direct", address_of(ready.url), (ready.pid,)), pacer, None)
    worker, mock, proxy = nginx.start(children, program, options.mock_port)
    return Upstreams(
        mock=System("direct", Address("127.0.0.1", mock), (worker.pid,)),
        pacer=pacer,
        nginx=System("nginx", Address("127.0.0.1", proxy), (worker.pid,)),
    )


def start_floor(children: Children, upstream: System) -> System:
    """The bare relay in front of one upstream."""
    url = f"http://{upstream.address.host}:{upstream.address.port}"
    command = python("holdfast.tools.relay", "--upstream", url, "--port", "0")
    ready = _ready(children.start(f"floor-{upstream.address.model}", command))
    return System("floor", address_of(ready.url, model=upstream.address.model), (ready.pid,))


def start_gateway(
    children: Children, upstreams: Upstreams, *, name: str = "gateway", servers: Servers | None = None
) -> Gateway:
    """A gateway over a data folder of its own, everything on; over the servers when they are given."""
    folder = children.folder / name
    folder.mkdir()
    file = folder / "holdfast.toml"
    mock, pacer = (
        f"http://{system.address.host}:{system.address.port}/v1" for system in (upstreams.mock, upstreams.pacer)
    )
    file.write_text(configuration({"mock": mock, STREAM_MODEL: pacer}, servers=servers is not None))
    admin, key = make_secret(), make_secret()
    secrets = {ADMIN_VARIABLE: admin, KEY_VARIABLE: key}
    if servers is not None:
        secrets |= {POSTGRES_VARIABLE: servers.postgres, REDIS_VARIABLE: servers.redis}
    command = python("holdfast", "up", "--json", "--port", "0", "--data", str(folder / "data"), "--config", str(file))
    begun = time.perf_counter()
    child = children.start(name, command, secrets)
    ready = _ready(child)
    took = time.perf_counter() - begun
    calls = System(name, address_of(ready.url, key=key), (ready.pid,))
    streams = System(name, address_of(ready.url, key=key, model=STREAM_MODEL), (ready.pid,))
    return Gateway(calls, streams, child, took, admin)


def competitor(options: BenchOptions, model: str) -> System | None:
    """The gateway to be driven beside us; whoever started it has pointed it at our upstreams."""
    if options.against is None:
        return None
    pids = (options.against_pid,) if options.against_pid is not None else ()
    return System("against", address_of(options.against, key=options.against_key, model=model), pids)


def _ready(child: Child) -> Ready:
    return msgspec.json.decode(child.first_line(), type=Ready)
