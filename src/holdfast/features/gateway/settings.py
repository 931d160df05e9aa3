"""[models.NAME], [routes.NAME], [defaults], [prices."NAME"]: what clients may ask for and by which policy."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Literal

from holdfast.kernel.setting import at_least, one_of, setting, usd

Mode = Literal["expected", "strict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """A name clients ask for."""

    lanes: tuple[str, ...] = setting(help='Where a call can go, "upstream/model", in order of preference.')
    requests_per_minute: int | None = setting(None, help="Limit of each lane of this model.", check=at_least(1))
    input_tokens_per_minute: int | None = setting(None, help="Limit of each lane of this model.", check=at_least(1))
    output_tokens_per_minute: int | None = setting(None, help="Limit of each lane of this model.", check=at_least(1))
    tokens_per_minute: int | None = setting(
        None, help="Limit of each lane of this model, input and output together.", check=at_least(1)
    )
    concurrent: int | None = setting(
        None, help="Calls in flight at once on each lane of this model.", check=at_least(1)
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if not self.lanes:
            yield "lanes", "is empty: a model needs a lane to go to"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """How a call is treated; `[defaults]` says it for all, a route for those it matches."""

    budget_mode: str = setting(
        "expected",
        help="`strict` reserves the most a call can cost and never passes a limit; `expected` reserves what such calls "
        "usually cost and carries debt.",
        check=one_of("expected", "strict"),
    )
    on_disconnect: str = setting(
        "linger",
        help="When the last reader leaves: `linger` goes on for linger_seconds, `cancel` stops at once, `finish` lets it end.",
        check=one_of("linger", "cancel", "finish"),
    )
    linger_seconds: float = setting(
        10.0, help="How long a call goes on without a reader under `linger`.", check=at_least(0)
    )
    share_sampled: bool = setting(
        False,
        help="Let identical calls in flight share one upstream call even when somebody may be sampling (temperature above 0 and no seed).",
    )
    connect_seconds: float = setting(5.0, help="Limit for name, TCP, proxy and TLS.", check=at_least(0.001))
    first_token_seconds: float = setting(
        120.0, help="Limit from sent to the first byte of the answer.", check=at_least(0.001)
    )
    idle_seconds: float = setting(60.0, help="Limit between two chunks of an answer.", check=at_least(0.001))
    total_seconds: float = setting(600.0, help="Limit for one attempt.", check=at_least(0.001))
    job_seconds: float = setting(900.0, help="Limit for the whole call, all attempts together.", check=at_least(0.001))
    on_unknown: str | None = setting(
        None,
        help="When an attempt may have been billed though nothing came back: `retry` elsewhere or `fail`; unset: `fail` "
        "under a strict budget, else `retry`.",
        check=one_of("retry", "fail"),
    )
    max_attempts: int = setting(3, help="Attempts a call may make, each on another lane.", check=at_least(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings(PolicySettings):
    """A named policy: the first route in file order whose conditions all hold is taken."""

    path: str | None = setting(None, help='Matches this path, for example "/v1/chat/completions".')
    model: str | None = setting(None, help="Matches this model.")
    key: str | None = setting(None, help="Matches this key, by name.")
    header: str | None = setting(None, help="Matches the value of the request header X-Holdfast-Route.")


def _per_million(value: str | None) -> None:
    if value is not None and Decimal(value) * 1_000_000 % 1:
        raise ValueError("may have six decimals at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """US dollars for a million tokens of a model, by its exact id, or "upstream/model" for one account only."""

    free: bool = setting(False, help="Declares that this model costs nothing (self-hosted, or paid otherwise).")
    input_usd: str | None = setting(None, help="A million input tokens.", convert=usd, check=_per_million)
    output_usd: str | None = setting(None, help="A million output tokens.", convert=usd, check=_per_million)
    cached_read_usd: str | None = setting(
        None, help="A million input tokens read from the provider's cache.", convert=usd, check=_per_million
    )
    cached_write_usd: str | None = setting(
        None, help="A million input tokens written to the provider's cache.", convert=usd, check=_per_million
    )
    long_context_above_tokens: int | None = setting(
        None, help="Above this many input tokens the long-context prices hold for the whole call.", check=at_least(1)
    )
    long_input_usd: str | None = setting(
        None, help="A million input tokens of a long call.", convert=usd, check=_per_million
    )
    long_output_usd: str | None = setting(
        None, help="A million output tokens of a long call.", convert=usd, check=_per_million
    )
    long_cached_read_usd: str | None = setting(
        None, help="A million cached input tokens of a long call.", convert=usd, check=_per_million
    )
    long_cached_write_usd: str | None = setting(
        None, help="A million input tokens written to the cache in a long call.", convert=usd, check=_per_million
    )
    batch_input_usd: str | None = setting(
        None, help="A million input tokens in the provider's batch tier.", convert=usd, check=_per_million
    )
    batch_cached_read_usd: str | None = setting(
        None,
        help="A million input tokens read from the cache in the batch tier; unset: batch_input_usd.",
        convert=usd,
        check=_per_million,
    )
    batch_output_usd: str | None = setting(
        None, help="A million output tokens in the provider's batch tier.", convert=usd, check=_per_million
    )
    audio_input_usd: str | None = setting(None, help="A million audio input tokens.", convert=usd, check=_per_million)
    audio_output_usd: str | None = setting(None, help="A million audio output tokens.", convert=usd, check=_per_million)
    image_input_usd: str | None = setting(None, help="A million image input tokens.", convert=usd, check=_per_million)
    max_output_tokens: int | None = setting(
        None,
        help="The most this model can answer: what strict budgets reserve when a call names no maximum.",
        check=at_least(1),
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        amounts = [field.name for field in fields(self) if field.name.endswith("_usd")]
        said = [name for name in amounts if getattr(self, name) is not None]
        if self.free:
            yield from ((name, "cannot stand beside free = true") for name in said)
            return
        if self.input_usd is None or self.output_usd is None:
            missing = "input_usd" if self.input_usd is None else "output_usd"
            yield missing, "is missing: a price says input_usd and output_usd (0 where there is none), or free = true"
        longs = [name for name in said if name.startswith("long_")]
        if self.long_context_above_tokens is None:
            yield from ((name, "means nothing without long_context_above_tokens") for name in longs)
        elif not longs:
            yield "long_context_above_tokens", "means nothing without long_input_usd or long_output_usd"
