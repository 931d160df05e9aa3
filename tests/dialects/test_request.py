"""Reading and editing an OpenAI request: any bytes are read or refused, and an edit changes what it says and nothing else."""

import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.dialects.openai.request import (
    ChatFields,
    asks_for_usage,
    edited,
    is_plain,
    most_input_tokens,
    options_with_usage,
    read,
)
from holdfast.kernel.errors import InvalidRequestError

KNOWN = list(ChatFields.__struct_fields__)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.one_of(st.sampled_from(KNOWN), TEXT, st.sampled_from(['"model"', 'a"model":', "\\", "}", "{", "\u2028"]))
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, st.sampled_from(['"model":"x"', '\\"model', "}}", "\x00"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
SPACE = st.text(" \t\r\n", max_size=2)


class Spelling:
    """Spells a value as JSON in any way there is: spaces, escapes, both kinds of slashes."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def space(self) -> str:
        return str(self._draw(SPACE))

    def text(self, value: str) -> str:
        way = self._draw(st.sampled_from(["plain", "ascii", "mixed"]))
        if way != "mixed":
            return json.dumps(value, ensure_ascii=way == "ascii")
        out = ""
        for letter in value:
            if letter in string.ascii_letters and self._draw(st.integers(0, 5)) == 0:
                spelt = f"\\u{ord(letter):04x}"
                out += spelt.upper().replace("\\U", "\\u") if self._draw(st.booleans()) else spelt
            elif letter == "/" and self._draw(st.booleans()):
                out += "\\/"
            else:
                out += json.dumps(letter)[1:-1]
        return f'"{out}"'

    def value(self, value: Any) -> str:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.pairs([(name, self.value(each)) for name, each in value.items()])
        if isinstance(value, list):
            return "[" + ",".join(self.space() + self.value(each) + self.space() for each in value) + self.space() + "]"
        return json.dumps(value)

    def pairs(self, pairs: list[tuple[str, str]]) -> str:
        inside = ",".join(
            f"{self.space()}{self.text(name)}{self.space()}:{self.space()}{value}{self.space()}"
            for name, value in pairs
        )
        return "{" + (inside or self.space()) + "}"


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.text(st.characters(codec="utf-8"), min_size=1, max_size=10),
    "messages": st.lists(ANY_JSON, min_size=1, max_size=3),
    "stream": st.one_of(st.booleans(), st.none()),
    "stream_options": st.one_of(
        st.none(), st.dictionaries(st.one_of(st.just("include_usage"), TEXT), ANY_JSON, max_size=3)
    ),
    "temperature": st.one_of(st.none(), st.floats(0, 2)),
    "seed": st.one_of(st.none(), st.integers(-(2**62), 2**62)),
    "n": st.one_of(st.none(), st.integers(1, 128)),
    "max_tokens": st.one_of(st.none(), st.integers(1, 10**8)),
    "max_completion_tokens": st.one_of(st.none(), st.integers(1, 10**8)),
    "user": st.one_of(st.none(), TEXT),
}


@st.composite
def requests(draw: Any) -> tuple[bytes, dict[str, Any]]:
    """A chat request, spelt in any way, and what it means. Names may be there twice."""
    spelling = Spelling(draw)
    pairs = [("model", draw(FIELDS["model"])), ("messages", draw(FIELDS["messages"]))]
    for name in draw(st.lists(st.sampled_from(KNOWN[2:]), unique=True)):
        pairs.append((name, draw(FIELDS[name])))
    pairs += draw(st.lists(st.tuples(TEXT.filter(lambda name: name not in KNOWN), ANY_JSON), max_size=3))
    for name in draw(st.lists(st.sampled_from(KNOWN), max_size=1)) if draw(st.integers(0, 3)) == 0 else []:
        pairs.append((name, draw(FIELDS[name])))
    pairs = draw(st.permutations(pairs))
    text = (
        spelling.space() + spelling.pairs([(name, spelling.value(value)) for name, value in pairs]) + spelling.space()
    )
    return text.encode(), {"pairs": pairs}


EDITS = st.dictionaries(
    st.sampled_from(["model", "stream_options", "max_completion_tokens"]),
    st.one_of(st.text(max_size=5), st.just({"include_usage": True}), st.integers(1, 9)),
    max_size=3,
)


def meant(body: bytes) -> list[tuple[str, Any]]:
    """The top level as pairs, as any reader of JSON sees it."""
    found: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found[:] = pairs
        return dict(pairs)

    json.loads(body, object_pairs_hook=keep)
    return found


@given(requests(), EDITS)
@settings(max_examples=600, deadline=None)
def test_an_edit_sets_what_it_says_and_changes_nothing_else(
    asked: tuple[bytes, dict[str, Any]], edits: dict[str, Any]
) -> None:
    body, _ = asked
    before = meant(body)
    try:
        fields = read("chat", body)
        after = edited(fields, body, edits)
    except InvalidRequestError:
        names = [name for name, _ in before]
        assert any(names.count(name) > 1 for name in KNOWN) or any(_unreadable(value) for _, value in before)
        return
    expected = dict(before)
    expected.update(edits)
    found = meant(after)
    assert dict(found) == expected
    for name in KNOWN:
        assert [each for each, _ in found].count(name) <= 1, "two readers could take different ones"
    if not edits:
        assert after == body
    elif is_plain(fields, body):
        assert _without(after, edits) == _without(body, edits)


def _unreadable(value: Any) -> bool:
    """What the strict reader refuses and this test's does not: halves of surrogate pairs."""
    return "\\ud" in json.dumps(value).lower()


def _without(body: bytes, edits: dict[str, Any]) -> bytes:
    """The bytes with the edited fields cut out, by a reader that knows where each value begins and ends."""
    text = body.decode()
    decoder = json.JSONDecoder()
    at = text.index("{") + 1
    kept = []
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "}":
            break
        begin = at
        name, at = decoder.raw_decode(text, at)
        while text[at] in " \t\r\n:":
            at += 1
        _, at = decoder.raw_decode(text, at)
        if name not in edits:
            kept.append(text[begin:at])
    return "|".join(kept).encode()


@given(st.one_of(st.binary(max_size=60), ANY_JSON.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for kind in ("chat", "embeddings"):
        try:
            fields = read(kind, body)
            edited(fields, body, {"model": "x"})
            most_input_tokens(body)
        except InvalidRequestError:
            continue


@given(requests(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_request_is_read_or_refused(asked: tuple[bytes, dict[str, Any]], data: st.DataObject) -> None:
    body, _ = asked
    at = data.draw(st.integers(0, len(body)))
    damaged = data.draw(
        st.sampled_from([body[:at], body[:at] + b"\xff" + body[at:], body[:at] + b'"' + body[at + 1 :], body[at:]])
    )
    try:
        fields = read("chat", damaged)
        after = edited(fields, damaged, {"model": "x"})
        most_input_tokens(damaged)
    except InvalidRequestError:
        return
    assert dict(meant(after))["model"] == "x"
    assert {**dict(meant(damaged)), "model": "x"} == dict(meant(after))


NASTY = [
    b'{"model":"m","messages":[1e999]}',
    b'{"model":"m","messages":[1],"x":1e999}',
    b'{"model":"m","messages":[1],"x":' + b"1" * 5_000 + b"}",
    b'{"model":"m","messages":[' + b"[" * 900 + b"]" * 900 + b"]}",
    b'{"model":"m","messages":["\\ud800\\ud800"]}',
    b'{"model":"m","messages":["\\udc00 x"],"x":{"\\ud800y":1}}',
    b'{"model":"m\\u0000","messages":["\\u0000"]}',
    b'{"model":"m","messages":[1],"tools":[1e999],"response_format":' + b"9" * 400 + b"}",
]


@pytest.mark.parametrize("body", NASTY)
def test_what_one_reader_takes_and_another_does_not_is_bounded_or_refused(body: bytes) -> None:
    try:
        fields = read("chat", body)
        assert edited(fields, body, {}) == body
        edited(fields, body, {"model": "x", "max_completion_tokens": 3})
        assert most_input_tokens(body) >= 0
    except InvalidRequestError:
        return


@given(ANY_JSON, ANY_JSON, st.lists(ANY_JSON, max_size=2))
@settings(max_examples=300, deadline=None)
def test_the_upper_bound_counts_every_byte_of_every_text(content: Any, more: Any, tools: list[Any]) -> None:
    """No tokenizer makes more tokens than there are bytes."""
    body = json.dumps({"model": "m", "messages": [content, {"role": "user", "content": more}], "tools": tools}).encode()
    assert most_input_tokens(body) >= _bytes_of_text([content, more, tools])


def _bytes_of_text(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(_bytes_of_text(each) for each in value.values())
    if isinstance(value, list):
        return sum(_bytes_of_text(each) for each in value)
    return int(isinstance(value, int) and not isinstance(value, bool))


def test_a_member_that_is_there_twice_counts_whichever_a_provider_takes() -> None:
    large = json.dumps([{"type": "function", "function": {"name": "f", "description": "x" * 9_000}}])
    for first, second in ((large, "[]"), ("[]", large)):
        body = b'{"model":"m","messages":[1],"tools":%b,"tools":%b}' % (first.encode(), second.encode())
        assert most_input_tokens(body) > 9_000
        body = b'{"model":"m","messages":[1],"tools":%b,"\\u0074ools":%b}' % (first.encode(), second.encode())
        assert most_input_tokens(body) > 9_000


def test_the_upper_bound_of_token_arrays_is_their_length() -> None:
    body = json.dumps({"model": "m", "input": [[1, 2, 3], [4, 5]]}).encode()
    assert most_input_tokens(body) == 5


def test_a_picture_hides_no_text() -> None:
    text = "x" * 50_000
    hidden = {"role": "user", "content": text, "image_url": 1}
    part = {"type": "image_url", "image_url": {"url": "https://example.invalid/a.png", "detail": "high"}, "text": text}
    for message in (hidden, {"role": "user", "content": [part]}):
        assert most_input_tokens(json.dumps({"model": "m", "messages": [message]}).encode()) >= 50_000
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [inline]}]}).encode()
    assert 3_000 <= most_input_tokens(body) < 10_000, "a picture costs by its size in pixels, not in bytes"


@pytest.mark.parametrize(
    ("options", "asks", "spelt"),
    [
        (None, False, {"include_usage": True}),
        ({}, False, {"include_usage": True}),
        ({"include_usage": True}, True, {"include_usage": True}),
        ({"include_usage": False, "x": [1]}, False, {"include_usage": True, "x": [1]}),
        ({"include_usage": None}, False, {"include_usage": True}),
    ],
)
def test_the_wish_for_usage_is_added_to_what_was_said(
    options: dict[str, Any] | None, asks: bool, spelt: dict[str, Any]
) -> None:
    fields = read("chat", json.dumps({"model": "m", "messages": [1], "stream_options": options}).encode())
    assert isinstance(fields, ChatFields)
    assert asks_for_usage(fields) is asks
    assert msgspec.json.decode(msgspec.json.encode(options_with_usage(fields))) == spelt


@pytest.mark.parametrize(
    "text", [b"\\u003cb\\u003e \\u0026", b"\\u00e9\\u2028", b"a\\/b", b"C:\\\\new", b"\\u0022model\\u0022:1"]
)
def test_what_other_languages_escape_passes_as_the_bytes_it_came_in(text: bytes) -> None:
    body = b'{"model":"m","messages":["%b"]}' % text
    assert edited(read("chat", body), body, {"model": "x"}) == body.replace(b'"m"', b'"x"')


def test_the_wish_for_usage_survives_a_body_that_is_encoded_anew() -> None:
    body = b'{"\\u006dodel":"m","messages":[1],"stream_options":{"x":1.0}}'
    fields = read("chat", body)
    assert isinstance(fields, ChatFields)
    after = json.loads(edited(fields, body, {"stream_options": options_with_usage(fields)}))
    assert after == {"model": "m", "messages": [1], "stream_options": {"x": 1.0, "include_usage": True}}


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
        ({"max_tokens": None, "n": 3}, None),
    ],
)
def test_what_the_client_allows(said: dict[str, Any], most: int | None) -> None:
    fields = read("chat", json.dumps({"model": "m", "messages": [1], **said}).encode())
    assert isinstance(fields, ChatFields)
    assert fields.most_output_tokens() == most


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"m","messages":[1],"user":"' + b"u" * 513 + b'"}', "user"),
        (b'{"model":"' + b"m" * 257 + b'","messages":[1]}', "model"),
        (b'{"messages":[1]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":{}}', "messages"),
        (b'{"model":"m","messages":[1],"n":129}', "n"),
        (b'{"model":"m","messages":[1],"stream":1}', "stream"),
        (b'{"model":"m","messages":[1],"stream":true,"\\u0073tream":false}', "stream"),
    ],
)
def test_a_refusal_names_its_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        edited(read("chat", body), body, {})
    assert refused.value.param == param


def test_embeddings_take_a_text_texts_or_tokens() -> None:
    for given_input in ('"x"', '["x"]', "[1,2]", "[[1]]"):
        read("embeddings", b'{"model":"m","input":%b}' % given_input.encode())
    for given_input in ("1", "{}", "null", "true"):
        with pytest.raises(InvalidRequestError) as refused:
            read("embeddings", b'{"model":"m","input":%b}' % given_input.encode())
        assert refused.value.param == "input"
