"""What a call costs: list prices that ship, dated, under the prices of the settings file.

Promises
- Exact: a price of up to six decimals is a whole number of picodollars a token; only the sum of an attempt is rounded, up,
  to a nanodollar.
- A model without a price has none (None), never 0; free is said, and costs 0.
- What has no price of its own costs what its side costs: cached, audio and image input as input, audio output as output.
  Where the provider's discounts meet and the list does not say the sum, the dearer price holds.
- No call of at most these tokens costs more than `ceiling` says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from sys import maxsize

from holdfast.features.gateway.settings import PriceSettings
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.loading import read
from holdfast.kernel.setting import setting
from holdfast.kernel.tokens import Usage

STALE_DAYS = 180
SHIPPED_FILE = Path(__file__).with_name("prices.toml")

# Picodollars a token: input, output, cached read, cached write, audio input, audio output, image input.
Tier = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedPrice(PriceSettings):
    """The list price of some ids."""

    ids: tuple[str, ...] = setting(help="The exact ids of the models.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """The price file that ships."""

    as_of: date
    prices: Mapping[str, PriceSettings]


def _day(value: str) -> None:
    try:
        date.fromisoformat(value)
    except ValueError as error:
        raise ValueError('must be a day, such as "2026-11-20"') from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    as_of: str = setting(help="The day these prices were compared on, for example 2026-11-20.", check=_day)
    price: tuple[ShippedPrice, ...] = setting(help="The prices.")


class Price:
    """The price of one model, made once. `version` names it on call rows: where from, of when, and a digest of what it says."""

    __slots__ = ("_batch", "_long", "_long_above", "_most", "_standard", "free", "max_output_tokens", "version")

    def __init__(self, settings: PriceSettings, version: str) -> None:
        self.version = version
        self.free = settings.free
        self.max_output_tokens = settings.max_output_tokens
        self._standard = _standard(settings)
        self._batch = _batch(settings)
        self._long = _long(settings)
        self._long_above = settings.long_context_above_tokens or maxsize
        self._most = _most(self._standard, self._batch), _most(self._standard, self._batch, self._long)

    def cost(self, usage: Usage, *, batch: bool = False) -> int:
        """Nanodollars of one attempt, rounded up once."""
        input_tokens = usage.input_tokens
        tier = self._batch if batch else self._standard
        if input_tokens > self._long_above:
            tier = self._long
        if (
            usage.cached_read_tokens
            or usage.cached_write_tokens
            or usage.audio_input_tokens
            or usage.audio_output_tokens
            or usage.image_input_tokens
        ):
            picodollars = _by_parts(usage, tier)
        else:
            picodollars = input_tokens * tier[0] + usage.output_tokens * tier[1]
        return -(-picodollars // 1000) if picodollars > 0 else 0

    def ceiling(self, input_tokens: int, max_output_tokens: int) -> int:
        """Nanodollars that no call with at most so many tokens passes, however they are split into cached, audio or image."""
        dearest_input, dearest_output = self._most[input_tokens > self._long_above]
        return -(-(input_tokens * dearest_input + max_output_tokens * dearest_output) // 1000)


class PriceBook:
    """Every known price. The settings file's word on a model replaces the shipped one whole; its word on "upstream/model"
    goes before its word on the model."""

    def __init__(self, declared: Mapping[str, PriceSettings], shipped: Shipped | None = None) -> None:
        shipped = shipped or read_shipped()
        self.as_of = shipped.as_of
        source = f"shipped:{shipped.as_of.isoformat()}"
        self._prices = {name: Price(price, f"{source}:{_digest(price)}") for name, price in shipped.prices.items()}
        self._prices |= {name: Price(price, f"user:{_digest(price)}") for name, price in declared.items()}

    def price_of(self, upstream: str, model: str) -> Price | None:
        return self._prices.get(f"{upstream}/{model}") or self._prices.get(model)


def read_shipped(text: str | None = None) -> Shipped:
    """The file that ships with this release; raises SettingsError when it is not what it should be."""
    reading = read(
        _File, text if text is not None else SHIPPED_FILE.read_text("utf-8"), file=SHIPPED_FILE, environ={}, flags={}
    )
    error = reading.report.error()
    if error is not None:
        raise error
    prices: dict[str, PriceSettings] = {}
    for price in reading.value.price:
        for name in price.ids:
            if name in prices:
                raise SettingsError(f'{SHIPPED_FILE.name}: "{name}" stands there twice')
            prices[name] = price
    return Shipped(as_of=date.fromisoformat(reading.value.as_of), prices=prices)


def stale(book: PriceBook, now: float) -> str | None:
    """A sentence when the shipped prices are older than half a year."""
    days = (datetime.fromtimestamp(now, UTC).date() - book.as_of).days
    if days <= STALE_DAYS:
        return None
    return f"the list prices that ship with this release are of {book.as_of.isoformat()}, {days} days ago"


def _by_parts(usage: Usage, tier: Tier) -> int:
    """Parts of the input never add up to more than the input: a cached image is taken as cached."""
    rest = usage.input_tokens
    picodollars = 0
    for tokens, price in (
        (usage.cached_read_tokens, tier[2]),
        (usage.cached_write_tokens, tier[3]),
        (usage.audio_input_tokens, tier[4]),
        (usage.image_input_tokens, tier[6]),
    ):
        part = min(tokens, rest)
        picodollars += part * price
        rest -= part
    audio = min(usage.audio_output_tokens, usage.output_tokens)
    return picodollars + rest * tier[0] + audio * tier[5] + (usage.output_tokens - audio) * tier[1]


def _standard(price: PriceSettings) -> Tier:
    inputs, outputs = _picodollars(price.input_usd, 0), _picodollars(price.output_usd, 0)
    if not price.free and (price.input_usd is None or price.output_usd is None):
        raise ValueError("a price says input_usd and output_usd, or free = true")
    return (
        inputs,
        outputs,
        _picodollars(price.cached_read_usd, inputs),
        _picodollars(price.cached_write_usd, inputs),
        _picodollars(price.audio_input_usd, inputs),
        _picodollars(price.audio_output_usd, outputs),
        _picodollars(price.image_input_usd, inputs),
    )


def _batch(price: PriceSettings) -> Tier:
    standard = _standard(price)
    inputs, outputs = (
        _picodollars(price.batch_input_usd, standard[0]),
        _picodollars(price.batch_output_usd, standard[1]),
    )
    cached = standard[2] if price.batch_input_usd is None else inputs
    return (
        inputs,
        outputs,
        _picodollars(price.batch_cached_read_usd, cached),
        _picodollars(price.cached_write_usd, inputs),
        _picodollars(price.audio_input_usd, inputs),
        _picodollars(price.audio_output_usd, outputs),
        _picodollars(price.image_input_usd, inputs),
    )


def _long(price: PriceSettings) -> Tier:
    standard = _standard(price)
    inputs, outputs = _picodollars(price.long_input_usd, standard[0]), _picodollars(price.long_output_usd, standard[1])
    return (
        inputs,
        outputs,
        _picodollars(price.long_cached_read_usd, inputs),
        _picodollars(price.long_cached_write_usd, max(inputs, standard[3])),
        max(inputs, standard[4]),
        max(outputs, standard[5]),
        max(inputs, standard[6]),
    )


def _most(*tiers: Tier) -> tuple[int, int]:
    """The dearest token of each side."""
    return (
        max(price for tier in tiers for price in (tier[0], tier[2], tier[3], tier[4], tier[6])),
        max(price for tier in tiers for price in (tier[1], tier[5])),
    )


def _picodollars(usd: str | None, otherwise: int) -> int:
    return otherwise if usd is None else int(Decimal(usd) * 1_000_000)


def _digest(price: PriceSettings) -> str:
    said = {field.name: getattr(price, field.name) for field in fields(PriceSettings)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
