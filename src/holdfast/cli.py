"""The command line: a table of verbs. What takes long to import is imported by the verb that needs it."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from holdfast.kernel.errors import HoldfastError, SettingsError
from holdfast.kernel.version import __version__
from holdfast.tools import keys as key_lines
from holdfast.tools import report
from holdfast.tools.remote import NobodyError, Remote, RemoteError

if TYPE_CHECKING:
    from holdfast.app import Ready
    from holdfast.settings import Loaded

FAILED = 1
UNUSABLE = 2
INTERRUPTED = 130
DEFAULT_FILE = Path("holdfast.toml")

cli = typer.Typer(
    name="holdfast",
    help="The production layer for AI features: one program between an application and its models.\n\n"
    "`holdfast up` starts it here; with nothing configured a scripted model answers, so the first call needs no provider.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys of a running Holdfast.")
cli.add_typer(keys, name="keys")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="HOLDFAST_CONFIG",
        metavar="FILE",
        help="Settings file; ./holdfast.toml where there is one.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="HOLDFAST_DATA", metavar="FOLDER", help="Data folder; `store.data` in the settings."),
]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting by its dotted name: `--set server.port=9000`."),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", show_default="8080")]
ReadyJson = Annotated[
    bool, typer.Option("--json", help='When ready, print one line: {"url", "key", "pid"}; for scripts.')
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[
    str | None,
    typer.Option(envvar="HOLDFAST_URL", help="Ask the Holdfast at this URL, not the one on this data folder."),
]
Secret = Annotated[
    str | None, typer.Option("--key", envvar="HOLDFAST_KEY", help="The API key for --url.", show_default=False)
]


@cli.command()
def up(
    config: Config = None,
    data: Data = None,
    host: Host = None,
    port: Port = None,
    assign: Assign = None,
    as_json: ReadyJson = False,
) -> None:
    """Start one Holdfast on this machine, with everything embedded.

    State is kept in the data folder, which one process has at a time. The first start makes an API key and prints it once;
    `HOLDFAST_BOOTSTRAP_KEY` in the environment is used instead where it is set. Without any provider configured the scripted
    model answers. Ctrl-C or SIGTERM stops it when running calls are done, a second one without waiting for them.
    """
    _run("up", config, flags(data, host, port, assign), as_json=as_json)


@cli.command()
def serve(
    config: Config = None,
    host: Host = None,
    port: Port = None,
    assign: Assign = None,
    as_json: ReadyJson = False,
) -> None:
    """Start one node of several: state in PostgreSQL (`store.postgres`), rates in Redis (`store.redis`).

    As `up`, but it keeps no files, has no socket for local commands (use --url), and says 503 on /readyz for
    `server.drain_notice_seconds` before it stops listening.
    """
    _run("serve", config, flags(None, host, port, assign), as_json=as_json)


@cli.command()
def check(
    config: Config = None,
    data: Data = None,
    assign: Assign = None,
    money: Annotated[bool, typer.Option("--money", help="Compare budgets with the calls instead.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="With --money: make budgets what the calls say.")] = False,
    as_json: Json = False,
) -> None:
    """Read the settings, then reach every store and lane; or, with --money, recompute every budget from its calls.

    Exit status 2: the settings cannot be used, and every mistake was said with its line. 1: a store or a lane cannot be
    reached (the line names the hop: name, TCP, proxy, TLS or credential), or a budget disagrees with its calls.
    """
    if repair and not money:
        raise typer.BadParameter("means nothing without --money", param_hint="--repair")
    loaded = settings(config, flags(data, None, None, assign))
    if money:
        _check_money(loaded, repair=repair, as_json=as_json)
        return
    from holdfast.offline import probe_lanes, reach_stores

    stores = _loop(reach_stores(loaded.settings.store))
    probed = _loop(probe_lanes(loaded, os.environ))
    source = loaded.source or "no settings file"
    counted = ", ".join(
        f"{len(getattr(loaded.settings, each))} {each}" for each in ("upstreams", "models", "routes", "keys")
    )
    failed = any(failure is not None for _, failure in (*stores, *((lane, failure) for _, lane, failure in probed)))
    if as_json:
        lanes = [{"model": model, "lane": lane, "failure": failure} for model, lane, failure in probed]
        reached = [{"store": name, "failure": failure} for name, failure in stores]
        _say(json.dumps({"settings": str(source), "stores": reached, "lanes": lanes}))
    else:
        tables = [*([report.stores(stores)] if stores else []), report.lanes(probed)]
        _say("\n\n".join((f"settings are fine ({source}): {counted}", *tables)))
    if failed:
        raise typer.Exit(FAILED)


def _check_money(loaded: "Loaded", *, repair: bool, as_json: bool) -> None:
    remote = Remote(folder=Path(loaded.settings.store.data))
    try:
        found = remote.ask("POST", "/local/money/recompute", {"repair": repair})["differences"]
    except NobodyError:
        from holdfast.offline import recompute

        found = _loop(recompute(loaded.settings.store, repair=repair))
    _say(
        json.dumps({"repaired": repair, "differences": found})
        if as_json
        else report.differences(found, repaired=repair)
    )
    if found and not repair:
        raise typer.Exit(FAILED)


@cli.command()
def status(
    config: Config = None, data: Data = None, url: Url = None, secret: Secret = None, as_json: Json = False
) -> None:
    """Whether the running Holdfast is ready, why not, and what needs a person.

    Exit status 1: it is not ready, or nobody runs there.
    """
    found = remote_of(config, data, url, secret).get("/readyz" if url else "/local/status", accept=(503,))
    _say(json.dumps(found) if as_json else report.status(found))
    if not found["ready"]:
        raise typer.Exit(FAILED)


@keys.command("list")
def list_keys(
    config: Config = None,
    data: Data = None,
    url: Url = None,
    secret: Secret = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Show revoked keys too.")] = False,
    as_json: Json = False,
) -> None:
    """List keys; their secrets are known to nobody."""
    found = key_lines.listed(remote_of(config, data, url, secret), revoked=revoked)
    _say(json.dumps(found) if as_json else key_lines.table(found))


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for: letters, digits, dots, hyphens and underscores.")],
    team: Annotated[
        str, typer.Option(metavar="ORG/TEAM", help="The team it belongs to, organisation/team.")
    ] = "default/default",
    role: Annotated[
        Literal["none", "viewer", "operator", "admin"], typer.Option(help="What it may do on the control API.")
    ] = "none",
    calls: Annotated[bool, typer.Option("--calls/--no-calls", help="Whether it may call models.")] = True,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model it may use; repeat it. None: every model.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="WORD", help="A word to find it by; repeat it.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="MOMENT", help="When it ends: 2027-01-31T00:00:00Z.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(metavar="N", help="Requests a minute.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Input and output tokens a minute.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(metavar="N", help="Calls in flight at once.")] = None,
    budget_usd: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Dollars a calendar month (UTC): 250 or 0.10.")
    ] = None,
    config: Config = None,
    data: Data = None,
    url: Url = None,
    secret: Secret = None,
    as_json: Json = False,
) -> None:
    """Make a key and print its secret: the only time it can be seen. Finer limits: docs/keys.md."""
    organisation, _, team_name = team.partition("/")
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent": concurrent,
        "budgets": [{"limit_usd": budget_usd}] if budget_usd is not None else [],
    }
    body = {
        "name": name,
        "organisation": organisation,
        "team": team_name,
        "role": role,
        "may_call": calls,
        "models": model or [],
        "tags": tag or [],
        "limits": limits,
        "expires_at": expires,
    }
    _show_secret(remote_of(config, data, url, secret).ask("POST", "/api/keys", body), as_json=as_json)


KeyName = Annotated[str, typer.Argument(help="The key's id, or its name where only one has it.")]


@keys.command("show")
def show_key(
    key: KeyName,
    config: Config = None,
    data: Data = None,
    url: Url = None,
    secret: Secret = None,
    as_json: Json = False,
) -> None:
    """Show one key."""
    found = key_lines.one(remote_of(config, data, url, secret), key)
    _say(json.dumps(found) if as_json else key_lines.card(found))


@keys.command("rotate")
def rotate_key(
    key: KeyName,
    overlap_seconds: Annotated[
        float | None,
        typer.Option(help="How long the old secret goes on.", show_default="tenancy.rotation_overlap_seconds"),
    ] = None,
    config: Config = None,
    data: Data = None,
    url: Url = None,
    secret: Secret = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print it: the only time it can be seen. The old one goes on for a while."""
    remote = remote_of(config, data, url, secret)
    found = key_lines.one(remote, key)
    rotated = remote.ask("POST", f"/api/keys/{found['id']}/rotate", {"overlap_seconds": overlap_seconds})
    _show_secret(rotated, as_json=as_json)


@keys.command("revoke")
def revoke_key(key: KeyName, config: Config = None, data: Data = None, url: Url = None, secret: Secret = None) -> None:
    """Revoke a key, for ever. Every node refuses it within a second."""
    remote = remote_of(config, data, url, secret)
    found = key_lines.one(remote, key)
    remote.ask("DELETE", f"/api/keys/{found['id']}")
    _say(f"revoked {found['name']} ({found['id']})")


@cli.command()
def sim(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9100,
    seed: Annotated[int, typer.Option(help="Answers follow from the seed and the request.")] = 0,
    defaults: Annotated[
        str, typer.Option(metavar="OPTIONS", help="How calls that say nothing are answered: `ttft_ms=200; itl_ms=20`.")
    ] = "",
    schedule: Annotated[Path | None, typer.Option(help="A file of windows with other options; docs/sim.md.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A name /v1/models lists; repeat it.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file: serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its key.")] = None,
    tls_refuse: Annotated[
        bool, typer.Option("--tls-refuse", help="Close every connection in the TLS handshake.")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen for other machines too; no key is asked for.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help='When ready, print one line: {"url", "pid"}.')] = False,
) -> None:
    """Serve the scripted model over HTTP, as OpenAI would: test an application without a provider.

    Pace and faults are asked for by call, in the model's name (`scripted?fault=429&times=2`) or in headers (`X-Sim`,
    `X-Sim-Fault`). `GET /sim/calls` counts what was asked; `POST /sim/reset` clears it. docs/sim.md lists all of it.
    """
    from holdfast.edge.sim import SimOptions, personality, run_sim

    ordinary = SimOptions()
    options = SimOptions(
        host=host,
        port=port,
        seed=seed,
        defaults=personality(defaults),
        schedule=schedule,
        models=tuple(model) if model else ordinary.models,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_refuse=tls_refuse,
        allow_remote=allow_remote,
        json=as_json,
    )
    raise typer.Exit(run_sim(options))


@cli.command()
def bench(
    only: Annotated[
        str | None,
        typer.Option(metavar="SECTIONS", help="Of requests,latency,streams,memory,engines; default: all but engines."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke of seconds; its figures mean nothing.")] = False,
    rounds: Annotated[int, typer.Option(help="How often the systems take turns.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of load in each run of requests and engines.")] = 5.0,
    connections: Annotated[int, typer.Option(help="Client connections.")] = 64,
    latency_calls: Annotated[int, typer.Option(help="Calls to each system, in each round of latency.")] = 2000,
    stream_counts: Annotated[str, typer.Option(metavar="N,N", help="Streams at once.")] = "500,1000",
    stream_seconds: Annotated[float, typer.Option(help="How long streams go on.")] = 30.0,
    stream_rounds: Annotated[int, typer.Option(help="How often streams are measured.")] = 1,
    chunks_per_second: Annotated[float, typer.Option(help="Of each stream.")] = 50.0,
    find_max: Annotated[bool, typer.Option("--find-max", help="Search the most streams that hold 30 ms.")] = False,
    memory_calls: Annotated[int, typer.Option(help="Calls between two looks at memory.")] = 200_000,
    long: Annotated[bool, typer.Option("--long", help="Memory goes on to 1,000,000 calls.")] = False,
    floor: Annotated[bool, typer.Option("--floor", help="Include the bare relay: what any relay costs.")] = False,
    gateway: Annotated[bool, typer.Option(help="Measure Holdfast.")] = True,
    engines: Annotated[bool, typer.Option("--engines", help="Include Holdfast on PostgreSQL and Redis.")] = False,
    postgres: Annotated[
        str | None, typer.Option(help="A server's URL; default: one from a wheel, where installed.")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="A server's URL; as with --postgres.")] = None,
    against: Annotated[str | None, typer.Option(help="OpenAI base URL of another gateway, driven beside us.")] = None,
    key: Annotated[str, typer.Option("--key", "--against-key", help="Its key.", show_default=False)] = "",
    against_model: Annotated[str, typer.Option(help="The model it knows the constant upstream by.")] = "mock",
    against_stream_model: Annotated[str, typer.Option(help="And the paced one.")] = "pacer",
    against_pid: Annotated[int | None, typer.Option(help="Its process here, for its CPU and memory.")] = None,
    mock_port: Annotated[int, typer.Option(help="Where the constant upstream listens; 0: a free port.")] = 0,
    pacer_port: Annotated[int, typer.Option(help="Where the paced upstream listens; 0: a free port.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure what Holdfast costs: requests, latency, streams and memory, beside nginx in the same run.

    Ratios within a run are the result; figures depend on the machine, whose noise is printed with them. docs/bench.md says
    how to read it. Exit status 1: an answer was wrong, or a system would not run; never a matter of speed.
    """
    from holdfast.tools.bench import BenchOptions, run

    try:
        options = BenchOptions(
            only=tuple(only.split(",")) if only else (),
            rounds=rounds,
            seconds=seconds,
            connections=connections,
            latency_calls=latency_calls,
            stream_counts=tuple(int(count) for count in stream_counts.split(",")),
            stream_seconds=stream_seconds,
            stream_rounds=stream_rounds,
            chunks_per_second=chunks_per_second,
            find_max=find_max,
            memory_calls=memory_calls,
            long=long,
            floor=floor,
            gateway=gateway,
            engines=engines,
            postgres=postgres,
            redis=redis,
            against=against,
            against_key=key,
            against_model=against_model,
            against_stream_model=against_stream_model,
            against_pid=against_pid,
            mock_port=mock_port,
            pacer_port=pacer_port,
            json=as_json,
            quick=quick,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(run(options))


@cli.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A folder that holds no backup yet; it is made where it is missing.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy the record into a folder, as it is at one moment; a running Holdfast goes on meanwhile.

    The copy holds key fingerprints, budgets and call rows. For PostgreSQL use its own tools: docs/backup.md.
    """
    from holdfast.offline import back_up, need_files

    loaded = settings(config, flags(data, None, None, None))
    need_files(loaded.settings.store)
    whole = target.resolve()
    try:
        Remote(folder=Path(loaded.settings.store.data)).ask("POST", "/local/backup", {"target": str(whole)})
    except NobodyError:
        back_up(loaded.settings.store, whole)
    _say(f"backed up into {whole}")


@cli.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `holdfast backup` made.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Make a backup the record of a data folder; the Holdfast there has to be stopped.

    The record that was there is kept beside it as holdfast.sqlite.replaced. A new incarnation begins: positions that
    clients hold in the former history end.
    """
    from holdfast.offline import need_files, restore

    loaded = settings(config, flags(data, None, None, None))
    need_files(loaded.settings.store)
    incarnation = restore(loaded.settings.store, source)
    _say(f"restored {source} into {loaded.settings.store.data}; incarnation {incarnation} begins")


@cli.command()
def docs(
    out: Annotated[Path, typer.Option(help="The folder to write settings.md and errors.md into.")] = Path(
        "docs/reference"
    ),
    only_check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 where a page is not as the code.")
    ] = False,
) -> None:
    """Write the reference of settings and errors from the code that declares them."""
    from holdfast.settings import Settings
    from holdfast.tools.reference import errors_page, settings_page

    pages = {"settings.md": settings_page(Settings), "errors.md": errors_page(HoldfastError)}
    if only_check:
        stale = [
            name for name, text in pages.items() if not (out / name).exists() or (out / name).read_text("utf-8") != text
        ]
        if stale:
            _fail(f"{', '.join(stale)} in {out} is not what the code says: run `./dev docs`.", FAILED)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text, "utf-8")


@cli.command()
def version() -> None:
    """Print the version."""
    _say(f"holdfast {__version__}")


def main() -> int:
    """The exit status: 0 done, 1 failed, 2 used wrongly or with settings that cannot be used. Every failure is a sentence."""
    sys.excepthook = _defect
    try:
        typer.main.get_command(cli)()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except SettingsError as error:
        return _said(error.message, UNUSABLE)
    except (HoldfastError, RemoteError) as error:
        return _said(error.message, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def flags(data: Path | None, host: str | None, port: int | None, assign: list[str] | None) -> dict[str, object]:
    """Flags by dotted name, as settings take them."""
    found: dict[str, object] = {"store.data": data, "server.host": host, "server.port": port}
    for said in assign or ():
        name, equals, value = said.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{said!r} is not NAME=VALUE", param_hint="--set")
        found[name] = value
    return found


def settings(config: Path | None, said: Mapping[str, object]) -> "Loaded":
    from holdfast.settings import load

    return load(_file(config), os.environ, said)


def remote_of(config: Path | None, data: Path | None, url: str | None, secret: str | None) -> Remote:
    """The Holdfast a command is about."""
    if url is not None:
        if secret is None:
            raise typer.BadParameter("--url needs a key: say --key or set HOLDFAST_KEY", param_hint="--key")
        return Remote(url=url, key=secret)
    if data is not None:
        return Remote(folder=data)
    try:
        return Remote(folder=Path(settings(config, {}).settings.store.data))
    except SettingsError as error:
        raise SettingsError(f"{error.message}\nWith --data FOLDER the settings are not needed.") from error


def _file(config: Path | None) -> Path | None:
    if config is not None:
        return config
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _run(mode: Literal["up", "serve"], config: Path | None, said: Mapping[str, object], *, as_json: bool) -> None:
    from holdfast import app

    options = app.Options(mode=mode, config=_file(config), environ=os.environ, flags=said)
    _loop(app.run(options, _ready_in_json if as_json else _ready_for_people))


def _ready_in_json(ready: "Ready") -> None:
    _say(json.dumps({"url": ready.url, "key": ready.key, "pid": os.getpid()}))


def _ready_for_people(ready: "Ready") -> None:
    """A key that came from the environment is not repeated on the screen."""
    given = "HOLDFAST_BOOTSTRAP_KEY" in os.environ
    key_name = "HOLDFAST_BOOTSTRAP_KEY" if given else "HOLDFAST_KEY"
    key = None if given else ready.key
    _say(report.welcome(ready.url, key, key_name, ready.first_model, scripted=ready.scripted))


def _loop(work: Any) -> Any:
    import uvloop

    return uvloop.run(work)


def _show_secret(key: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(key))
        return
    _say(key_lines.card(key))
    _say(f"\nThe secret, shown this once:\n\n  {key['secret']}")


def _say(text: str) -> None:
    print(text, flush=True)


def _said(text: str, code: int) -> int:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return code


def _fail(text: str, code: int) -> NoReturn:
    raise SystemExit(_said(text, code))


def _defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A defect of ours, as a sentence that says where: for an issue, not for a screen full of frames."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    _said(
        f"holdfast failed inside: {kind.__name__}: {error}{where}. This is a defect; please report this line.", FAILED
    )
