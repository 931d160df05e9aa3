"""The scripted upstream keeps the promises of ports/upstream.py, on a clock that is told what time it is."""

from dataclasses import replace

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import (
    StreamInterruptedError,
    UpstreamConnectError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from holdfast.ports.upstream import Limits, Upstream
from holdfast.upstreams.scripted import DEFAULTS, FAULTS, ScriptedUpstream, parse_schedule
from tests.upstreams.scripted import Remembering, ask, chat, settle


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def upstream(clock: VirtualClock) -> ScriptedUpstream:
    return ScriptedUpstream("script", clock)


async def test_it_is_an_upstream(upstream: ScriptedUpstream) -> None:
    port: Upstream = upstream
    await port.probe()
    await port.close()
    assert port.name == "script"


async def test_without_latency_an_answer_needs_no_time(upstream: ScriptedUpstream) -> None:
    whole, stream = await ask(upstream, chat()), await ask(upstream, chat(stream=True))
    assert (whole.status, whole.outcome) == (200, "complete")
    assert (stream.status, stream.outcome) == (200, "complete")
    assert (b"x-holdfast-scripted", b"1") in whole.headers
    assert (b"x-holdfast-scripted", b"1") in stream.headers
    assert whole.text == stream.text != ""
    assert all(frame.startswith(b"data: ") and frame.endswith(b"\n\n") for frame in stream.got)
    assert len(stream.got) == 1 + 32 + 1 + 1  # role, tokens, finish, [DONE]


async def test_the_same_question_gets_the_same_answer_under_another_id(upstream: ScriptedUpstream) -> None:
    answers = [await ask(upstream, chat(prompt=prompt)) for prompt in ("a", "a", "b")]
    await settle()
    assert answers[0].text == answers[1].text != answers[2].text
    assert len({answer.body["id"] for answer in answers}) == 3
    again = await ask(ScriptedUpstream("elsewhere", VirtualClock()), chat(prompt="a"))
    seeded = await ask(
        ScriptedUpstream("elsewhere", VirtualClock(), seed=7), chat(prompt="a", model="scripted?tokens=64")
    )
    unseeded = await ask(upstream, chat(prompt="a", model="scripted?tokens=64"))
    assert again.text == answers[0].text
    assert seeded.text != unseeded.text


async def test_tokens_come_at_their_pace(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    sink = await ask(upstream, chat("scripted?ttft_ms=200&itl_ms=20&tokens=5", stream=True))
    await clock.advance(0.199)
    assert sink.status == 0
    assert upstream.counts.open == 1
    await clock.advance(0.0011)
    assert len(sink.chunks) == 2  # the role and the first token
    for tokens in (2, 3, 4):
        await clock.advance(0.02)
        assert len(sink.chunks) == 1 + tokens
        assert upstream.counts.completion_tokens == tokens
        assert sink.waits
    await clock.advance(0.02)
    assert sink.outcome == "complete"
    assert upstream.counts.open == 0


async def test_a_whole_answer_comes_after_all_its_tokens(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    sink = await ask(upstream, chat("scripted?ttft_ms=200&itl_ms=20&tokens=5"))
    await clock.advance(0.279)
    assert sink.status == 0
    await clock.advance(0.001)
    assert sink.outcome == "complete"


async def test_reasoning_takes_time_and_tokens_and_shows_nothing(
    upstream: ScriptedUpstream, clock: VirtualClock
) -> None:
    sink = await ask(
        upstream, chat("scripted?reasoning=10&itl_ms=10&tokens=3", stream=True, stream_options={"include_usage": True})
    )
    await clock.advance(0.0999)
    assert sink.status == 0
    await clock.advance(0.0211)
    usage = sink.chunks[-1]["usage"]
    assert usage["completion_tokens"] == 13
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 10
    assert (
        len([chunk for chunk in sink.chunks if chunk["choices"] and chunk["choices"][0]["delta"].get("content")]) == 3
    )


async def test_cancel_stops_generation_at_once(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    sink = await ask(upstream, chat("scripted?itl_ms=20&tokens=50", stream=True))
    await clock.advance(0.1)
    assert sink.exchange is not None
    sink.exchange.cancel()
    sink.exchange.cancel()
    await clock.advance(5)
    assert sink.outcome == "cancelled"
    assert upstream.counts.completion_tokens == 6
    assert (upstream.counts.open, upstream.counts.hung_up) == (0, 1)


async def test_cancel_of_a_whole_answer_counts_what_was_generated_by_then(
    upstream: ScriptedUpstream, clock: VirtualClock
) -> None:
    sink = await ask(upstream, chat("scripted?ttft_ms=100&itl_ms=20&tokens=50"))
    await clock.advance(0.165)
    assert sink.exchange is not None
    sink.exchange.cancel()
    assert sink.outcome == "cancelled"
    assert upstream.counts.completion_tokens == 4
    assert upstream.counts.open == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_cancel_before_anything_came(upstream: ScriptedUpstream, clock: VirtualClock, stream: bool) -> None:
    sink = await ask(upstream, chat("scripted?ttft_ms=100", stream=stream))
    assert sink.exchange is not None
    sink.exchange.cancel()
    await clock.advance(1)
    assert (sink.status, sink.outcome) == (0, "cancelled")
    assert (upstream.counts.open, upstream.counts.completion_tokens) == (0, 0)


async def test_cancel_from_inside_the_sink(upstream: ScriptedUpstream) -> None:
    sink = Remembering()
    sink.cancel_after = 1
    await ask(upstream, chat("scripted?tokens=2000", stream=True), sink=sink)
    assert sink.outcome == "cancelled"
    assert sink.batches == 1
    assert upstream.counts.completion_tokens < 2000
    assert upstream.counts.open == 0


async def test_pause_holds_the_answer_back_and_resume_loses_nothing(
    upstream: ScriptedUpstream, clock: VirtualClock
) -> None:
    sink = await ask(upstream, chat("scripted?itl_ms=10&tokens=20", stream=True))
    await clock.advance(0.05)
    assert sink.exchange is not None
    sink.exchange.pause()
    before = len(sink.got)
    await clock.advance(10)
    assert len(sink.got) == before
    assert sink.waits
    sink.exchange.resume()
    await clock.advance(1)
    assert sink.outcome == "complete"
    reference = await ask(upstream, chat("scripted?itl_ms=10&tokens=20"))
    await clock.advance(1)
    assert sink.text == reference.text


async def test_pause_holds_a_long_answer_without_latency_back(upstream: ScriptedUpstream) -> None:
    sink = Remembering()
    sink.pause_after = 1
    await ask(upstream, chat("scripted?tokens=3000", stream=True), sink=sink)
    assert len(sink.got) < 300
    assert sink.exchange is not None
    while sink.ended is None:
        sink.exchange.resume()
        await settle()
    assert sink.outcome == "complete"
    assert len(sink.text) == 4 * 3000


@pytest.mark.parametrize(
    ("model", "stream", "limits", "named"),
    [
        ("scripted?fault=hang", True, Limits(first_token_seconds=2), "first token"),
        ("scripted?fault=hang", False, Limits(first_token_seconds=2), "first token"),
        ("scripted?ttft_ms=3000", True, Limits(first_token_seconds=2), "first token"),
        ("scripted?fault=stall&after=3", True, Limits(idle_seconds=2), "idle"),
        ("scripted?itl_ms=3000", True, Limits(idle_seconds=2), "idle"),
        ("scripted?itl_ms=100&tokens=100", True, Limits(total_seconds=2), "total"),
        ("scripted?itl_ms=100&tokens=100", False, Limits(total_seconds=2), "total"),
        ("scripted?fault=drip&drip_ms=1000", True, Limits(total_seconds=2), "total"),
    ],
)
async def test_each_limit_ends_the_exchange(
    upstream: ScriptedUpstream, clock: VirtualClock, model: str, stream: bool, limits: Limits, named: str
) -> None:
    sink = await ask(upstream, chat(model, stream=stream), limits=limits)
    await clock.advance(1.9)
    assert sink.waits
    await clock.advance(1)
    assert sink.ended is not None
    assert sink.outcome == "timeout"
    assert isinstance(sink.ended.error, UpstreamTimeoutError)
    assert named in sink.ended.error.message
    assert upstream.counts.open == 0


async def test_a_paused_reader_is_not_an_idle_provider(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    sink = await ask(upstream, chat("scripted?itl_ms=100&tokens=10", stream=True), limits=Limits(idle_seconds=1))
    await clock.advance(0.3)
    assert sink.exchange is not None
    sink.exchange.pause()
    await clock.advance(30)
    assert sink.waits
    sink.exchange.resume()
    await clock.advance(2)
    assert sink.outcome == "complete"


@pytest.mark.parametrize(("fault", "frames"), [("cut", 1 + 3), ("reset", 1 + 3)])
async def test_a_broken_stream_ends_broken_after_its_whole_frames(
    upstream: ScriptedUpstream, fault: str, frames: int
) -> None:
    sink = await ask(upstream, chat(f"scripted?fault={fault}&after=3", stream=True))
    assert sink.outcome == "broken"
    assert len(sink.got) == frames
    assert sink.ended is not None
    assert isinstance(sink.ended.error, StreamInterruptedError)
    assert upstream.counts.completion_tokens == 3


@pytest.mark.parametrize("model", ["scripted?fault=cut", "scripted?fault=reset"])
async def test_a_broken_whole_answer_hands_over_nothing(upstream: ScriptedUpstream, model: str) -> None:
    sink = await ask(upstream, chat(model))
    assert (sink.outcome, sink.got) == ("broken", [])
    assert sink.ended is not None
    assert isinstance(sink.ended.error, UpstreamProtocolError)


async def test_refused_tls_is_a_failed_connect(upstream: ScriptedUpstream) -> None:
    with pytest.raises(UpstreamConnectError):
        await ask(upstream, chat("scripted?fault=tls_refused"))
    assert (upstream.counts.refused, upstream.counts.open, upstream.counts.prompt_tokens) == (1, 0, 0)


async def test_drip_arrives_as_whole_frames(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    sink = await ask(upstream, chat("scripted?tokens=4&fault=drip&drip_bytes=37&drip_ms=10", stream=True))
    reference = await ask(upstream, chat("scripted?tokens=4&fault=drip&drip_bytes=37&drip_ms=10"))
    await clock.advance(0.05)
    assert sink.waits
    await clock.advance(60)
    assert sink.outcome == reference.outcome == "complete"
    assert sink.batches > 4
    assert sink.got[-1] == b"data: [DONE]\n\n"
    assert sink.text == reference.text


async def test_every_fault_ends_or_waits_and_none_leaks(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    for fault in FAULTS:
        for stream in (True, False):
            if fault == "tls_refused":
                continue
            sink = await ask(
                upstream, chat(f"scripted?drip_bytes=500&fault={fault}", stream=stream), limits=Limits(total_seconds=30)
            )
            await clock.advance(31)
            waits = fault in ("hang", "stall")
            assert sink.outcome == ("timeout" if waits else "broken" if fault in ("cut", "reset") else "complete"), (
                fault,
                stream,
            )
            assert upstream.counts.open == 0


@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        ("429", 429, "rate_limit_exceeded", b"1"),
        ("429; retry_after=2.5", 429, "rate_limit_exceeded", b"2.5"),
        ("500", 500, None, None),
        ("status; status=503; retry_after=3", 503, None, b"3"),
        ("529", 529, "overloaded", None),
        ("context_length_exceeded", 400, "context_length_exceeded", None),
    ],
)
async def test_error_statuses(
    upstream: ScriptedUpstream, fault: str, status: int, code: str | None, retry_after: bytes | None
) -> None:
    sink = await ask(upstream, chat(stream=True), headers=((b"X-Sim-Fault", fault.encode()),))
    assert (sink.status, sink.outcome) == (status, "complete")
    assert sink.body["error"]["code"] == code
    assert dict(sink.headers).get(b"retry-after") == retry_after
    assert upstream.counts.refused == 1
    assert upstream.counts.prompt_tokens == upstream.counts.completion_tokens == 0


async def test_times_lets_the_retry_through(upstream: ScriptedUpstream) -> None:
    statuses = []
    for prompt in ("a", "a", "b", "a", "b", "b"):
        sink = await ask(upstream, chat("scripted?fault=503&times=2", prompt))
        statuses.append((prompt, sink.status))
    assert statuses == [("a", 503), ("a", 503), ("b", 503), ("a", 200), ("b", 503), ("b", 200)]


async def test_share_strikes_its_share_and_the_same_calls_each_time(upstream: ScriptedUpstream) -> None:
    async def struck(asked: ScriptedUpstream) -> list[int]:
        found = []
        for number in range(400):
            sink = await ask(asked, chat("scripted?fault=500&share=0.3", f"question {number}"))
            found.append(sink.status)
        return found

    statuses = await struck(upstream)
    assert 80 <= statuses.count(500) <= 160
    assert statuses == await struck(ScriptedUpstream("again", VirtualClock()))


async def test_a_schedule_follows_clock_and_call_numbers_and_starts_anew(clock: VirtualClock) -> None:
    schedule = parse_schedule(
        """
        [[window]]
        from_seconds = 10
        until_seconds = 20
        fault = "429"
        [[window]]
        from_call = 3
        until_call = 4
        model = "scripted"
        fault = 503
        """,
        "here",
    )
    upstream = ScriptedUpstream("script", clock, schedule=schedule)

    async def status(model: str = "scripted?tokens=1") -> int:
        sink = await ask(upstream, chat(model))
        return sink.status

    assert [await status(), await status("other"), await status(), await status()] == [200, 200, 503, 200]
    await clock.advance(10)
    assert await status() == 429
    assert await status("scripted?fault=none") == 200
    await clock.advance(10)
    assert await status() == 200
    upstream.reset()
    assert [await status("other"), await status("other"), await status("other"), await status()] == [200, 200, 200, 200]
    await clock.advance(10)
    assert await status() == 429


async def test_the_server_s_defaults_lie_below_everything(clock: VirtualClock) -> None:
    upstream = ScriptedUpstream("script", clock, defaults=replace(DEFAULTS, fault="status", status=503))
    refused, told = await ask(upstream, chat()), await ask(upstream, chat("scripted?fault=none"))
    assert (refused.status, told.status) == (503, 200)


async def test_counting_is_exact_and_reset_forgets(upstream: ScriptedUpstream, clock: VirtualClock) -> None:
    for prompt in ("a", "a", "b"):
        await ask(upstream, chat(prompt=prompt))
    open_one = await ask(upstream, chat("scripted?itl_ms=100&tokens=10", stream=True))
    await clock.advance(0.25)
    counts = upstream.counts
    assert (counts.total, counts.open, sorted(counts.by_fingerprint.values())) == (4, 1, [1, 1, 2])
    assert counts.prompt_tokens == 4 * 8 + 1  # 3 + 4 + the prompt's tokens each; "Hello" is two
    assert counts.completion_tokens == 3 * 32 + 3
    upstream.reset()
    assert (counts.total, counts.open, counts.by_fingerprint, counts.prompt_tokens) == (0, 1, {}, 0)
    await clock.advance(10)
    assert open_one.outcome == "complete"
    assert (counts.open, counts.completion_tokens) == (0, 7)
