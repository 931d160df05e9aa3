"""holdfast.toml + environment + flags into one frozen tree. Each part is declared by the package that reads it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from holdfast.edge.server.settings import ServerSettings
from holdfast.engines.settings import StoreSettings
from holdfast.features.gateway.settings import ModelSettings, PolicySettings, PriceSettings, RouteSettings
from holdfast.features.tenancy.settings import KeySettings, OrganisationSettings, TenancySettings
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.loading import Reading, read
from holdfast.kernel.places import KeyPath
from holdfast.kernel.report import dotted, nearest
from holdfast.kernel.secret import Secret, fingerprint
from holdfast.kernel.setting import between, http_url, one_of, setting
from holdfast.kernel.tenant import DEFAULT_TENANT
from holdfast.kernel.watch import FileWatch, Signature, signature
from holdfast.upstreams.settings import UpstreamSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard error."""

    level: str = setting(
        "info", help="The least severe line written.", check=one_of("debug", "info", "warning", "error")
    )
    format: str = setting("json", help="`json`, or `text` for people.", check=one_of("json", "text"))
    calls: str = setting(
        "errors", help="Which calls get a line: `none`, `errors` or `all`.", check=one_of("none", "errors", "all")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """OpenTelemetry traces; off until an endpoint is said."""

    otlp_endpoint: str | None = setting(
        None,
        help="Where spans go, OTLP over HTTP, for example http://127.0.0.1:4318/v1/traces.",
        check=http_url,
        restart=True,
    )
    sample: float = setting(1.0, help="The share of calls that are traced.", check=between(0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole tree."""

    server: ServerSettings = setting(factory=ServerSettings, help="Sockets and their limits.")
    store: StoreSettings = setting(factory=StoreSettings, help="Where state lives.")
    tenancy: TenancySettings = setting(factory=TenancySettings, help="How keys are kept.")
    logs: LogSettings = setting(factory=LogSettings, help="What is written to standard error.")
    traces: TraceSettings = setting(factory=TraceSettings, help="OpenTelemetry traces.")
    upstreams: dict[str, UpstreamSettings] = setting(factory=dict, help="Provider accounts, by name.")
    models: dict[str, ModelSettings] = setting(factory=dict, help="Names clients ask for.")
    defaults: PolicySettings = setting(
        factory=PolicySettings,
        help="The policy of calls no route says otherwise for, and of what a route leaves unsaid.",
    )
    routes: dict[str, RouteSettings] = setting(
        factory=dict, help="Named policies; the first match in file order is taken."
    )
    organisations: dict[str, OrganisationSettings] = setting(factory=dict, help="Organisations and their teams.")
    keys: dict[str, KeySettings] = setting(factory=dict, help="API keys declared here.")
    prices: dict[str, PriceSettings] = setting(factory=dict, help="Prices that override the ones that ship.")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used. `origin` names what was said and where, by path (`keys.app.team`):
    `holdfast.toml:12`, `environment` or `flag`; what it lacks is a default. `secret_files` are watched beside `source`; `seen` is what
    the files looked like before they were read."""

    settings: Settings
    source: Path | None
    origin: Mapping[str, str]
    secret_files: tuple[Path, ...]
    seen: Signature

    @property
    def watched(self) -> tuple[Path, ...]:
        return self.secret_files if self.source is None else (self.source, *self.secret_files)

    def origin_of(self, path: str) -> str:
        return self.origin.get(path, "default")


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Read and check everything; raises one SettingsError that says all that is wrong. Flags go by dotted path
    (`server.port`); a flag that is None was not said."""
    found = _attempt(path, environ, flags).found
    if isinstance(found, SettingsError):
        raise found
    return found


def needs_loopback(settings: Settings) -> list[str]:
    """The upstreams for whose sake only this machine may reach us: a scripted model answers anybody, and answers nonsense."""
    return [name for name, upstream in settings.upstreams.items() if upstream.dialect == "scripted"]


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def shown(settings: Settings) -> dict[str, Any]:
    """The effective settings as plain data, every secret masked."""
    return {field.name: _plain(getattr(settings, field.name)) for field in fields(settings)}


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """What differs and a running process cannot change, by dotted path."""
    return [
        f"{table.name}.{field.name}"
        for table in fields(Settings)
        if is_dataclass(part := getattr(old, table.name))
        for field in fields(part)
        if field.metadata["restart"] and getattr(part, field.name) != getattr(getattr(new, table.name), field.name)
    ]


class Watch:
    """Notices that the file, or a file a secret stands in, was written, replaced, linked elsewhere or removed, and reads
    everything anew. A file must rest for one interval first, so that nothing half written is read."""

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        flags: Mapping[str, object],
        clock: Clock,
        interval_seconds: float = 0.5,
    ) -> None:
        self._path = loaded.source
        self._environ = environ
        self._flags = flags
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._files = FileWatch(loaded.watched, loaded.seen)

    def look(self) -> Loaded | SettingsError | None:
        """What a change came to; None where nothing changed, or the change is younger than one look."""
        return self.reload() if self._files.changed() else None

    def reload(self) -> Loaded | SettingsError:
        """Read now, whatever changed: what SIGHUP asks for."""
        attempt = _attempt(self._path, self._environ, self._flags)
        self._files = FileWatch(attempt.files, attempt.seen)
        return attempt.found

    async def changes(self) -> AsyncGenerator[Loaded | SettingsError, None]:
        """Every change, for ever; files are read in a thread."""
        while True:
            await self._clock.sleep(self._interval_seconds)
            found = await asyncio.to_thread(self.look)
            if found is not None:
                yield found


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What reading came to, and what the files it read looked like before it began."""

    found: Loaded | SettingsError
    files: tuple[Path, ...]
    seen: Signature


def _attempt(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> _Attempt:
    """Which secret files there are is known only after reading: then read again, so that what a file looked like before
    it was read is known of each."""
    files: tuple[Path, ...] = () if path is None else (path,)
    while True:
        seen = signature(files)
        try:
            text = "" if path is None else _text(path)
        except SettingsError as error:
            return _Attempt(error, files, seen)
        reading = read(Settings, text, file=path, environ=environ, flags=flags)
        unseen = [file for file in reading.secret_files if file not in files]
        if not unseen:
            return _Attempt(_checked(reading, path, seen), files, seen)
        files += tuple(unseen)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}:{line}: not UTF-8 text") from error


def _checked(reading: Reading[Settings], path: Path | None, seen: Signature) -> Loaded | SettingsError:
    settings = replace(reading.value, routes=_over_defaults(reading))
    for check in CHECKS:
        for at, sentence in check(settings):
            reading.report.wrong(at, sentence)
    error = reading.report.error()
    return error or Loaded(settings, path, reading.report.origins(), reading.secret_files, seen)


def _over_defaults(reading: Reading[Settings]) -> dict[str, RouteSettings]:
    """What a route leaves unsaid is as [defaults] says."""
    policy = [field.name for field in fields(PolicySettings)]
    defaults = reading.value.defaults
    return {
        name: replace(
            route,
            **{field: getattr(defaults, field) for field in policy if not reading.report.said(("routes", name, field))},
        )
        for name, route in reading.value.routes.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return "***"
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


# What no single table can know. Each check yields places and what is wrong there.
Wrong = Iterator[tuple[KeyPath, str]]


_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def _names(settings: Settings) -> Wrong:
    """Models are named by others and may hold slashes and colons; what is named here is spelt in paths and scopes."""
    places: list[KeyPath] = [("upstreams", name) for name in settings.upstreams]
    places += [("routes", name) for name in settings.routes]
    places += [("keys", name) for name in settings.keys]
    for name, organisation in settings.organisations.items():
        places += [("organisations", name), *(("organisations", name, "teams", team) for team in organisation.teams)]
    for place in places:
        if not _NAME.fullmatch(str(place[-1])):
            yield place, "a name is 1 to 64 letters, digits, dots, underscores or hyphens"
    for model in settings.models:
        if not model or not model.isprintable() or len(model) > 256 or model != model.strip():
            yield ("models", model), "a model's name is 1 to 256 characters that can be seen"


def _lanes(settings: Settings) -> Wrong:
    for name, model in settings.models.items():
        for index, lane in enumerate(model.lanes):
            upstream, _, upstream_model = lane.partition("/")
            if not upstream or not upstream_model:
                yield ("models", name, "lanes", index), f'"{lane}" is not spelt upstream/model'
            elif upstream not in settings.upstreams:
                near = nearest(upstream, settings.upstreams)
                yield ("models", name, "lanes", index), f'"{lane}": there is no upstream "{upstream}"{near}'
            elif lane in model.lanes[:index]:
                yield ("models", name, "lanes", index), f'"{lane}" stands in the list twice'


def _routes(settings: Settings) -> Wrong:
    for name, route in settings.routes.items():
        if route.model is not None and route.model not in settings.models:
            near = nearest(route.model, settings.models)
            yield ("routes", name, "model"), f'there is no model "{route.model}"{near}'
        if route.key is not None and route.key not in settings.keys:
            yield ("routes", name, "key"), f'there is no key "{route.key}"{nearest(route.key, settings.keys)}'


def _keys(settings: Settings) -> Wrong:
    first: dict[str, str] = {}
    for name, key in settings.keys.items():
        yield from (((("keys", name, "team")), sentence) for sentence in _team(settings, key.team))
        for index, model in enumerate(key.models):
            if model not in settings.models:
                near = nearest(model, settings.models)
                yield ("keys", name, "models", index), f'there is no model "{model}"{near}'
        digest = fingerprint(key.secret.reveal()).hex() if key.secret is not None else (key.sha256 or "").lower()
        if digest and first.setdefault(digest, name) != name:
            said = "secret" if key.secret is not None else "sha256"
            yield ("keys", name, said), f"is the same key as [{dotted(('keys', first[digest]))}]"


def _team(settings: Settings, spelt: str) -> Iterator[str]:
    organisation, _, team = spelt.partition("/")
    if spelt == str(DEFAULT_TENANT):
        return
    if organisation not in settings.organisations:
        yield f'there is no organisation "{organisation}"{nearest(organisation, settings.organisations)}'
    elif team not in settings.organisations[organisation].teams:
        teams = settings.organisations[organisation].teams
        yield f'organisation "{organisation}" has no team "{team}"{nearest(team, teams)}'


def _loopback(settings: Settings) -> Wrong:
    scripted = needs_loopback(settings)
    for field in ("host", "api_host"):
        host = getattr(settings.server, field)
        if scripted and host is not None and not is_loopback(host):
            yield ("server", field), f'upstream "{scripted[0]}" is scripted, so only a loopback address will do'


CHECKS: tuple[Callable[[Settings], Wrong], ...] = (_names, _lanes, _routes, _keys, _loopback)
