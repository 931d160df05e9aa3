"""Bytes of a call: what all attempts sent to providers, and what the client was given of the answer."""

import pytest

from holdfast.kernel.errors import UpstreamConnectError
from holdfast.ports.upstream import Ended
from tests.features.gateway.rig import DONE, TENANT, Rig, chat, completion, event, play_completion, usage_event

FRAMES = (event({"content": "H\u00e9"}), event({"content": "llo"}), event({}, "stop"))


def figures(rig: Rig) -> tuple[int, int]:
    return rig.ledger.one.upstream_bytes, rig.ledger.one.answer_bytes


async def test_a_whole_answer_counts_its_body_and_what_the_provider_was_sent() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    reader = await rig.ask(chat()).done()
    assert figures(rig) == (len(rig.one.sent[0].outgoing.body), len(reader.body))
    assert reader.body == completion()


async def test_a_stream_counts_the_events_the_client_was_given() -> None:
    rig = Rig()

    def play(sent: object) -> None:
        rig.one.sent[0].begin()
        rig.one.sent[0].frames(FRAMES[0])
        rig.one.sent[0].frames(*FRAMES[1:], usage_event(7, 3), DONE)
        rig.one.sent[0].finish()

    rig.one.play = play
    reader = await rig.ask(chat(stream=True)).done()
    assert reader.got == [*FRAMES, DONE], "the event of usage was withheld"
    assert figures(rig) == (len(rig.one.sent[0].outgoing.body), len(reader.body))


async def test_the_event_that_says_why_a_stream_broke_is_of_the_answer() -> None:
    rig = Rig()
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    rig.one.sent[0].begin()
    rig.one.sent[0].frames(FRAMES[0])
    rig.one.sent[0].end(Ended("broken", UpstreamConnectError("cut")))
    reader = await asked.done()
    assert len(reader.got) == 2
    assert figures(rig)[1] == len(reader.body)


async def test_every_attempt_counts_what_it_sent() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two, model="a-longer-name"))
    rig.one.play = play_completion(503, b"{}")
    rig.two.play = play_completion()
    reader = await rig.ask(chat()).done()
    first, second = rig.one.sent[0].outgoing.body, rig.two.sent[0].outgoing.body
    assert len(first) != len(second)
    assert figures(rig) == (len(first) + len(second), len(reader.body))


async def test_an_attempt_that_never_reached_a_provider_sent_nothing() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))
    rig.one.refuse = UpstreamConnectError("no route")
    rig.two.play = lambda sent: sent.end(Ended("broken", UpstreamConnectError("no route"), sent=False))
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert figures(rig) == (0, 0)


async def test_a_follower_was_given_an_answer_and_sent_nothing() -> None:
    rig = Rig()
    leader, follower = rig.ask(chat(temperature=0)), rig.ask(chat(temperature=0))
    await rig.settle()
    rig.one.sent[0].whole(200, completion())
    await leader.done()
    await follower.done()
    sent, given = len(rig.one.sent[0].outgoing.body), len(completion())
    ends = [rig.ledger.closed[asked.id] for asked in (leader, follower)]
    assert [(end.upstream_bytes, end.answer_bytes) for end in ends] == [(sent, given), (0, given)]
    measures, team = rig.gateway.measures, (TENANT.organisation, TENANT.team)
    assert measures.tenant_upstream_bytes.values()[team] == sent
    assert measures.tenant_answer_bytes.values()[team] == 2 * given


@pytest.mark.parametrize("streaming", [True, False])
async def test_what_comes_after_the_client_left_is_not_counted(streaming: bool) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="finish")
    asked = rig.ask(chat(stream=streaming))
    await rig.settle()
    sent = rig.one.sent[0]
    if streaming:
        sent.begin()
        sent.frames(FRAMES[0])
    asked.reader.leave()
    if streaming:
        sent.frames(*FRAMES[1:], DONE)
        sent.finish()
    else:
        sent.whole(200, completion())
    await asked.done()
    assert figures(rig) == (len(sent.outgoing.body), len(FRAMES[0]) if streaming else 0)
