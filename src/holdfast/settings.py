"""holdfast.toml + environment + flags into one frozen tree. Each part is declared by the package that reads it."""

from dataclasses import dataclass

from holdfast.edge.server.settings import ServerSettings
from holdfast.engines.settings import StoreSettings
from holdfast.features.gateway.settings import ModelSettings, PolicySettings, PriceSettings, RouteSettings
from holdfast.features.tenancy.settings import KeySettings, OrganisationSettings, TenancySettings
from holdfast.kernel.setting import one_of, setting
from holdfast.upstreams.settings import UpstreamSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard error."""

    level: str = setting("info", help="The least severe line written.", check=one_of("debug", "info", "warning", "error"))
    format: str = setting("json", help="`json`, or `text` for people.", check=one_of("json", "text"))
    calls: str = setting("errors", help="Which calls get a line: `none`, `errors` or `all`.", check=one_of("none", "errors", "all"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """OpenTelemetry traces; off until an endpoint is said."""

    otlp_endpoint: str | None = setting(None, help="Where spans go, OTLP over HTTP, for example http://127.0.0.1:4318/v1/traces.")
    sample: float = setting(1.0, help="The share of calls that are traced.")


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
    defaults: PolicySettings = setting(factory=PolicySettings, help="The policy of calls no route says otherwise for.")
    routes: dict[str, RouteSettings] = setting(factory=dict, help="Named policies; the first match in file order is taken.")
    organisations: dict[str, OrganisationSettings] = setting(factory=dict, help="Organisations and their teams.")
    keys: dict[str, KeySettings] = setting(factory=dict, help="API keys declared here.")
    prices: dict[str, PriceSettings] = setting(factory=dict, help="Prices that override the ones that ship.")
