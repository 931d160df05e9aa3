"""Steering the scripted model: options and their grammar, distributions by their quantiles, schedules, what is kept bounded."""

import contextlib
import hashlib
import json
import re
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.script.counting import OTHER, Counts
from holdfast.upstreams.script.distributions import Constant, LogNormal, Uniform, parse_distribution, seeded
from holdfast.upstreams.script.options import read_fault_header, read_header, read_model_name
from holdfast.upstreams.script.plan import Pace
from holdfast.upstreams.scripted import (
    DEFAULTS,
    FAULTS,
    OPTIONS,
    ScriptedUpstream,
    load_schedule,
    parse_schedule,
    with_options,
)
from tests.upstreams.scripted import ask, chat


def test_a_model_s_name_carries_options() -> None:
    name = "scripted?ttft_ms=lognormal:200:2000&itl_ms=uniform:10:30&tokens=50&fault=stall&after=10&text=a%26b%3Dc"
    assert read_model_name(name) == {
        "ttft_ms": LogNormal(200, 2000),
        "itl_ms": Uniform(10, 30),
        "tokens": Constant(50),
        "fault": "stall",
        "after": 10,
        "text": "a&b=c",
    }
    assert read_model_name("scripted") == {}
    assert json.loads(json.dumps(name)) == name


def test_headers_carry_options() -> None:
    assert read_fault_header("429; retry_after=2") == {"fault": "status", "status": 429, "retry_after": 2.0}
    assert read_fault_header("stall;after=3; share=0.5 ;") == {"fault": "stall", "after": 3, "share": 0.5}
    assert read_header("ttft_ms=200; itl_ms=20") == {"ttft_ms": Constant(200), "itl_ms": Constant(20)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scripted?tfft_ms=2", "ttft_ms"),
        ("scripted?fault=stal", "stall"),
        ("scripted?fault=200", "400 to 599"),
        ("scripted?fault=999", "400 to 599"),
        ("scripted?tokens", "OPTION=VALUE"),
        ("scripted?tokens=many", "not a number"),
        ("scripted?tokens=nan", "between"),
        ("scripted?after=-1", "whole number"),
        ("scripted?after=1.5", "whole number"),
        ("scripted?after=²", "whole number"),
        ("scripted?share=2", "from 0 to 1"),
        ("scripted?share=nan", "from 0 to 1"),
        ("scripted?ttft_ms=uniform:3:1", "LOW"),
        ("scripted?ttft_ms=lognormal:0:1", "P50"),
        ("scripted?ttft_ms=normal:1:2", "lognormal:P50:P99"),
        ("scripted?ttft_ms=-1", "between"),
        ("scripted?text=%ff", "utf-8"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_nearest_name(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_model_name(text)


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_no_name_breaks_the_reading(text: str) -> None:
    for read in (read_model_name, read_header, read_fault_header):
        with contextlib.suppress(ValueError):
            with_options(DEFAULTS, read(text if read is not read_model_name else f"m?{text}"))


def test_the_nearest_layer_wins() -> None:
    merged = with_options(DEFAULTS, {"after": 1, "status": 503}, {"after": 2}, {})
    assert (merged.after, merged.status, merged.tokens) == (2, 503, DEFAULTS.tokens)


async def test_header_over_name(request: pytest.FixtureRequest) -> None:
    upstream = ScriptedUpstream("script")
    for headers, status in (
        ((), 503),
        (((b"x-sim", b"status=504"),), 504),
        (((b"x-sim", b"status=504"), (b"x-sim-fault", b"429")), 429),
        (((b"x-sim-fault", b"none"),), 200),
        (((b"x-sim-fault", b"stal"),), 400),
    ):
        sink = await ask(upstream, chat("scripted?fault=503"), headers=headers)
        assert sink.status == status, (request.node.name, headers)


def test_every_option_and_fault_says_what_it_does() -> None:
    assert set(OPTIONS) == set(type(DEFAULTS).__dataclass_fields__)
    assert all(option.help.endswith(".") for option in OPTIONS.values())
    assert all(fault.help.endswith(".") for fault in FAULTS.values())


def test_quantiles_of_distributions() -> None:
    random = seeded(7)
    draws = [random.random() for _ in range(40_000)]
    heavy = parse_distribution("lognormal:200:2000")
    drawn = statistics.quantiles([heavy.at(u) for u in draws], n=100)
    assert drawn[49] == pytest.approx(200, rel=0.03)
    assert drawn[98] == pytest.approx(2000, rel=0.08)
    flat = statistics.quantiles([parse_distribution("uniform:100:300").at(u) for u in draws], n=4)
    assert flat == pytest.approx([150, 200, 250], rel=0.02)
    assert parse_distribution("20").at(0.99) == 20
    assert heavy.at(0.5) == pytest.approx(200)
    assert heavy.at(0.99) == pytest.approx(2000)
    assert heavy.at(0.0) > 0


@given(
    st.floats(0, 5),
    st.integers(0, 2**32),
    st.integers(1, 200),
    st.sampled_from(["0", "20", "uniform:1:40", "lognormal:10:90"]),
)
def test_a_pace_tells_the_same_moments_forwards_and_backwards(first: float, seed: int, tokens: int, gaps: str) -> None:
    pace = Pace(first, parse_distribution(gaps), seed)
    moment = pace.moment_of(tokens)
    assert pace.tokens_by(moment + 1e-6, tokens) == tokens
    assert pace.tokens_by(first - 0.001, tokens) == 0
    if gaps != "0" and tokens > 1:
        assert pace.tokens_by(moment - 1e-6, tokens) < tokens


async def test_latencies_are_drawn_anew_for_each_call_of_a_fingerprint_and_alike_for_a_seed() -> None:
    def moments(upstream: ScriptedUpstream) -> list[float]:
        model = upstream._model
        body = json.dumps(chat("scripted?ttft_ms=lognormal:200:2000")).encode()
        return [model.ask("/chat/completions", body).pace.first_seconds for _ in range(500)]

    first = moments(ScriptedUpstream("script"))
    assert len(set(first)) == 500
    assert statistics.median(first) == pytest.approx(0.2, rel=0.2)
    assert first == moments(ScriptedUpstream("again"))
    assert first != moments(ScriptedUpstream("other", seed=1))


async def test_the_fingerprint_is_the_one_that_is_documented() -> None:
    upstream = ScriptedUpstream("script")
    await ask(upstream, chat(prompt="Hi", temperature=1))
    spelt = '["chat","scripted",[{"content":"Hi","role":"user"}],null,null,null,null,1.0,null]'
    assert list(upstream.counts.by_fingerprint) == [hashlib.sha256(spelt.encode()).hexdigest()]
    upstream.reset()
    await ask(upstream, {"model": "m", "input": ["a", "b"]}, path="/embeddings")
    assert list(upstream.counts.by_fingerprint) == [hashlib.sha256(b'["embeddings","m",["a","b"]]').hexdigest()]


def test_counts_are_bounded() -> None:
    counts = Counts(limit=2)
    for name in ("a", "b", "c", "d", "a", "c"):
        counts.ask(name, 1, refused=False)
    assert counts.by_fingerprint == {"a": 2, "b": 1, OTHER: 3}
    assert counts.total == 6
    assert (counts.asked_before("a"), counts.asked_before("zzz")) == (2, 3)


async def test_remembered_personalities_are_bounded() -> None:
    upstream = ScriptedUpstream("script")
    for number in range(2500):
        upstream._model.ask("/chat/completions", json.dumps(chat(f"scripted?tokens={number}")).encode())
    assert len(upstream._model._personalities) <= 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[window]]\nfrom_secs = 1", "from_seconds"),
        ('[[window]]\nfault = "stal"', "stall"),
        ("[[window]]\nfrom_call = true", "from_call"),
        ("[[window]]\nfrom_call = -1", "from_call"),
        ("[[window]]\nfault = [1]", "fault"),
        ("[[windows]]\nfault = 429", "[[window]]"),
        ("window = 3", "[[window]]"),
        ("[[window]\n", "line 1"),
    ],
)
def test_a_schedule_that_cannot_be_used_says_where(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_schedule(text, "faults.toml")
    assert "faults.toml" in refused.value.message
    assert said in refused.value.message


def test_a_schedule_comes_from_a_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("schedule") / "faults.toml"
    path.write_text("[[window]]\nfrom_seconds = 1\nfault = 429\nretry_after = 2\nshare = 0.5\n")
    (window,) = load_schedule(path)
    assert (window.from_seconds, window.share) == (1, 0.5)
    assert window.options == {"fault": "status", "status": 429, "retry_after": 2.0}
    with pytest.raises(SettingsError, match="cannot be read"):
        load_schedule(path.with_name("missing.toml"))
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_schedule(path)


async def test_the_share_of_a_window_is_drawn_from_the_seed() -> None:
    schedule = parse_schedule('[[window]]\nshare = 0.25\nfault = "500"', "here")
    upstream = ScriptedUpstream("script", schedule=schedule)
    statuses = [(await ask(upstream, chat(prompt=f"{number}"))).status for number in range(300)]
    assert 45 <= statuses.count(500) <= 105
