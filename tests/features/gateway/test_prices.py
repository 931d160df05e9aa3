"""What calls cost: exact, never less than the provider bills for, never 0 for what nobody priced."""

from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.features.gateway.prices import Price, PriceBook, Shipped, read_shipped, stale
from holdfast.features.gateway.settings import PriceSettings
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.money import NANODOLLARS
from holdfast.kernel.tokens import Usage
from holdfast.settings import load

SHIPPED = read_shipped()
BOOK = PriceBook({}, SHIPPED)
MILLION = 1_000_000


def usd(amount: str) -> int:
    return int(Decimal(amount) * NANODOLLARS)


def price_of(model: str) -> Price:
    found = BOOK.price_of("any", model)
    assert found is not None, model
    return found


def made(**said: object) -> Price:
    return Price(PriceSettings(**{"input_usd": "1", "output_usd": "2", **said}), "user:test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("gpt-4o", Usage(MILLION, MILLION), "12.50"),
        ("gpt-4o-2024-11-20", Usage(MILLION, 0, cached_read_tokens=MILLION), "1.25"),
        ("gpt-4o-2024-05-13", Usage(MILLION, MILLION), "20"),
        ("gpt-4o-mini", Usage(1, 1), "0.00000075"),
        ("gpt-4.1-nano-2025-04-14", Usage(1000, 0, cached_read_tokens=1000), "0.000025"),
        ("gpt-5-2025-08-07", Usage(MILLION, MILLION, reasoning_tokens=900_000), "11.25"),
        ("gpt-5.4", Usage(272_000, 0), "0.68"),
        ("gpt-5.4", Usage(272_001, 0), "1.360005"),
        ("o3", Usage(MILLION, MILLION), "10"),
        ("text-embedding-3-small", Usage(MILLION, 0), "0.02"),
        ("gpt-4o-audio-preview", Usage(1000, 1000, audio_input_tokens=600, audio_output_tokens=700), "0.084"),
        ("claude-sonnet-4-5-20250929", Usage(1000, 0, cached_read_tokens=500, cached_write_tokens=300), "0.001875"),
        ("claude-sonnet-4-5-20250929", Usage(200_001, 1000), "1.222506"),
        ("claude-opus-4-8", Usage(MILLION, MILLION), "30"),
        ("claude-3-5-haiku-latest", Usage(MILLION, MILLION), "4.80"),
        ("gemini-2.5-pro", Usage(200_000, 1000), "0.26"),
        ("gemini-2.5-pro", Usage(200_001, 1000, cached_read_tokens=1), "0.51500025"),
        ("gemini-2.5-flash", Usage(1000, 0, audio_input_tokens=1000), "0.001"),
    ],
)
def test_list_prices_are_as_published(model: str, usage: Usage, cost: str) -> None:
    assert price_of(model).cost(usage) == usd(cost)


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("gpt-4o", Usage(MILLION, MILLION), "6.25"),
        ("gpt-4o", Usage(MILLION, 0, cached_read_tokens=MILLION), "1.25"),
        ("gpt-5", Usage(MILLION, 0, cached_read_tokens=MILLION), "0.0625"),
        ("claude-opus-4-5", Usage(MILLION, MILLION), "15"),
        ("gpt-5.1-codex", Usage(MILLION, MILLION), "11.25"),
        ("gemini-2.5-pro", Usage(200_001, 0), "0.5000025"),
    ],
)
def test_a_batch_costs_what_the_list_says_of_batches_and_never_a_guess_less(
    model: str, usage: Usage, cost: str
) -> None:
    assert price_of(model).cost(usage, batch=True) == usd(cost)


def test_an_attempt_is_rounded_up_once() -> None:
    """Three tokens at a tenth of a nanodollar, and at a picodollar: one nanodollar, not three."""
    assert made(input_usd="0.0001", output_usd="0").cost(Usage(3, 0)) == 1
    assert made(input_usd="0.000001", output_usd="0.000001").cost(Usage(1, 2)) == 1
    assert made(input_usd="0.000001", output_usd="0").cost(Usage(2001, 0)) == 3
    assert made().cost(Usage(0, 0)) == 0


def test_parts_never_add_up_to_more_than_the_whole() -> None:
    """Providers count a cached image twice; and a count that cannot be is no credit."""
    price = made(cached_read_usd="0.5", image_input_usd="3", audio_output_usd="5")
    assert price.cost(Usage(100, 0, cached_read_tokens=100, image_input_tokens=80)) == 50_000
    assert price.cost(Usage(100, 10, image_input_tokens=500, audio_output_tokens=99)) == 300_000 + 50_000
    assert price.cost(Usage(-5, 0)) == 0


def test_a_part_without_its_own_price_costs_what_its_side_costs() -> None:
    price = made()
    parts = Usage(
        400, 100, cached_read_tokens=100, cached_write_tokens=100, audio_input_tokens=100, image_input_tokens=100
    )
    assert price.cost(parts._replace(audio_output_tokens=50)) == price.cost(Usage(400, 100))


def test_free_is_nothing_and_unpriced_is_unknown() -> None:
    book = PriceBook({"llama": PriceSettings(free=True, max_output_tokens=5)}, SHIPPED)
    free = book.price_of("local", "llama")
    assert free is not None
    assert (free.free, free.cost(Usage(MILLION, MILLION)), free.ceiling(MILLION, MILLION)) == (True, 0, 0)
    assert free.max_output_tokens == 5
    assert book.price_of("local", "llama-2") is None
    assert BOOK.price_of("openai", "gpt-4o-") is None
    assert BOOK.price_of("openai", "GPT-4o") is None


def test_the_users_word_replaces_the_shipped_price_whole_and_one_accounts_word_goes_first() -> None:
    mine = PriceSettings(input_usd="1", output_usd="1")
    account = PriceSettings(input_usd="0.5", output_usd="0.5")
    book = PriceBook({"gpt-4o": mine, "azure/gpt-4o": account, "azure/own": account}, SHIPPED)
    costs = {
        name: price.cost(Usage(MILLION, 0, cached_read_tokens=MILLION))
        for name in ("openai/gpt-4o", "azure/gpt-4o", "azure/own", "azure/gpt-4.1")
        if (price := book.price_of(*name.split("/"))) is not None
    }
    assert costs == {
        "openai/gpt-4o": usd("1"),
        "azure/gpt-4o": usd("0.5"),
        "azure/own": usd("0.5"),
        "azure/gpt-4.1": usd("0.5"),
    }
    assert book.price_of("openai", "own") is None


def test_prices_reach_the_book_from_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_text('[prices."local/llama"]\nfree = true\n[prices.mine]\ninput_usd = 0.15\noutput_usd = "0.6"\n')
    book = PriceBook(load(file, {}, {}).settings.prices, SHIPPED)
    mine = book.price_of("x", "mine")
    assert mine is not None
    assert mine.cost(Usage(MILLION, MILLION)) == usd("0.75")
    local = book.price_of("local", "llama")
    assert local is not None
    assert local.free


def test_a_version_names_what_was_charged() -> None:
    version = price_of("gpt-4o").version
    source, day, digest = version.split(":")
    assert (source, day, len(digest)) == ("shipped", SHIPPED.as_of.isoformat(), 8)
    assert version == price_of("gpt-4o-2024-08-06").version
    assert version != price_of("gpt-4o-mini").version
    same, other = PriceSettings(input_usd="1", output_usd="1"), PriceSettings(input_usd="1", output_usd="1.1")
    versions = [PriceBook({"m": said}, SHIPPED).price_of("u", "m") for said in (same, same, other)]
    names = [price.version for price in versions if price is not None]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("user:")


def test_every_shipped_entry_is_whole() -> None:
    text = {"gpt-4o", "gpt-4.1-mini", "gpt-5", "gpt-5.1", "o1", "o3-mini", "o4-mini", "text-embedding-3-large"}
    text |= {"claude-3-5-sonnet-20241022", "claude-3-7-sonnet-20250219", "claude-opus-4-1-20250805", "claude-haiku-4-5"}
    text |= {"gemini-1.5-pro", "gemini-2.0-flash", "gemini-2.5-flash-lite"}
    assert text <= set(SHIPPED.prices)
    for name, price in SHIPPED.prices.items():
        assert list(price.contradictions()) == [], name
        assert price.input_usd is not None, name
        assert Decimal(price.input_usd) > 0, name
        assert not price.free, name
        assert price.max_output_tokens is not None or "embedding" in name, name


def test_discounts_are_discounts_and_surcharges_surcharges() -> None:
    """A slip of a digit or a column in the shipped file shows here."""
    for name, price in SHIPPED.prices.items():
        said = {
            f.name: Decimal(getattr(price, f.name))
            for f in fields(price)
            if f.name.endswith("_usd") and getattr(price, f.name)
        }
        for cheaper, dearer in (
            ("cached_read_usd", "input_usd"),
            ("batch_input_usd", "input_usd"),
            ("batch_output_usd", "output_usd"),
            ("batch_cached_read_usd", "batch_input_usd"),
            ("input_usd", "cached_write_usd"),
            ("input_usd", "long_input_usd"),
            ("output_usd", "long_output_usd"),
            ("input_usd", "audio_input_usd"),
            ("output_usd", "audio_output_usd"),
        ):
            if cheaper in said and dearer in said:
                assert said[cheaper] < said[dearer] or said[dearer] == 0, (name, cheaper, dearer)
        if "batch_input_usd" in said:
            assert said["batch_input_usd"] * 2 == said["input_usd"], name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('as_of = "2026-01-01"\n[[price]]\nids = ["a"]\ninput_usd = 1\n', "output_usd: is missing"),
        (
            'as_of = "2026-01-01"\n' + '[[price]]\nids = ["a"]\ninput_usd = 1\noutput_usd = 1\n' * 2,
            '"a" stands there twice',
        ),
        ('as_of = "soon"\nprice = []\n', "as_of: must be a day"),
        ("price = []\n", '"as_of" is missing'),
    ],
)
def test_a_broken_price_file_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said.replace('"', ".")):
        read_shipped(text)


def test_old_list_prices_are_a_finding() -> None:
    book = PriceBook({}, Shipped(as_of=date(2026, 1, 1), prices={}))
    at = datetime(2026, 6, 30, 23, tzinfo=UTC).timestamp()
    assert stale(book, at) is None
    assert stale(book, at + 86_400) == "the list prices that ship with this release are of 2026-01-01, 181 days ago"


AMOUNTS = st.decimals(0, 200, places=6).map(lambda amount: format(amount, "f"))
TOKENS = st.integers(0, 2_000_000)
PRICES = st.builds(
    PriceSettings,
    input_usd=AMOUNTS,
    output_usd=AMOUNTS,
    **{
        name: st.none() | AMOUNTS
        for name in (field.name for field in fields(PriceSettings))
        if name.endswith("_usd") and name not in {"input_usd", "output_usd"}
    },
    long_context_above_tokens=st.none() | st.integers(1, 1_000_000),
)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)


@given(PRICES, USAGES, TOKENS, TOKENS, st.booleans())
def test_no_call_passes_its_ceiling(
    settings: PriceSettings, usage: Usage, more_in: int, more_out: int, batch: bool
) -> None:
    price = Price(settings, "user:test")
    cost = price.cost(usage, batch=batch)
    assert 0 <= cost <= price.ceiling(usage.input_tokens, usage.output_tokens)
    assert cost <= price.ceiling(usage.input_tokens + more_in, usage.output_tokens + more_out)


@given(AMOUNTS, AMOUNTS, TOKENS, TOKENS)
def test_text_costs_exactly_what_the_price_says(
    inputs: str, outputs: str, input_tokens: int, output_tokens: int
) -> None:
    price = Price(PriceSettings(input_usd=inputs, output_usd=outputs), "user:test")
    exact = (Decimal(inputs) * input_tokens + Decimal(outputs) * output_tokens) / MILLION * NANODOLLARS
    assert price.cost(Usage(input_tokens, output_tokens)) == exact.to_integral_value(ROUND_CEILING)


def test_a_price_made_by_hand_is_whole_too() -> None:
    with pytest.raises(ValueError, match="input_usd and output_usd"):
        Price(PriceSettings(input_usd="1"), "user:test")
