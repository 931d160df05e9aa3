"""Every key of a TOML text is found on its line: checked against tomllib on texts made at random."""

import tomllib
from typing import Any

from hypothesis import given, reject
from hypothesis import strategies as st

from holdfast.kernel.places import KeyPath, key_lines

TEXT = '''\
# a comment with [brackets] = "and" 'quotes'
title = "one # not a comment"

[server]   # trailing
port = 8080
"quoted key" = 'literal [x]'
dotted.inner."deep er" = 1
long = """
[not.a.table]
port = 9
say ""\\" it """""
raw = \'\'\'
[[neither]]
\'\'\'
point = { x = 1, y = { z = [1, 2] } }

[[keys.app.budgets]]
limit_usd = "1"
[[keys.app.budgets]]
limit_usd = 2
[keys.app.budgets.more]
note = 1979-05-27 07:32:00
[models."a/b.c"]
lanes = [
  "x/y",   # first ]
  # nothing
  "z/w",
  { inline = true },
]
'''


def lines_of(text: str) -> dict[KeyPath, int]:
    tomllib.loads(text)
    return key_lines(text)


def test_every_kind_of_key_stands_on_its_line() -> None:
    assert lines_of(TEXT) == {
        ("title",): 2,
        ("server",): 4,
        ("server", "port"): 5,
        ("server", "quoted key"): 6,
        ("server", "dotted"): 7,
        ("server", "dotted", "inner"): 7,
        ("server", "dotted", "inner", "deep er"): 7,
        ("server", "long"): 8,
        ("server", "raw"): 12,
        ("server", "point"): 15,
        ("server", "point", "x"): 15,
        ("server", "point", "y"): 15,
        ("server", "point", "y", "z"): 15,
        ("server", "point", "y", "z", 0): 15,
        ("server", "point", "y", "z", 1): 15,
        ("keys",): 17,
        ("keys", "app"): 17,
        ("keys", "app", "budgets"): 17,
        ("keys", "app", "budgets", 0): 17,
        ("keys", "app", "budgets", 0, "limit_usd"): 18,
        ("keys", "app", "budgets", 1): 19,
        ("keys", "app", "budgets", 1, "limit_usd"): 20,
        ("keys", "app", "budgets", 1, "more"): 21,
        ("keys", "app", "budgets", 1, "more", "note"): 22,
        ("models",): 23,
        ("models", "a/b.c"): 23,
        ("models", "a/b.c", "lanes"): 24,
        ("models", "a/b.c", "lanes", 0): 25,
        ("models", "a/b.c", "lanes", 1): 27,
        ("models", "a/b.c", "lanes", 2): 28,
        ("models", "a/b.c", "lanes", 2, "inline"): 28,
    }


def test_windows_line_ends_count_as_one() -> None:
    assert lines_of("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


def test_an_escaped_key_is_the_key_it_means() -> None:
    assert lines_of('"a\\u0062\\"c" = 1') == {('ab"c',): 1}


NAMES = st.sampled_from(["a", "b", "key-1", "k_2", "3", "a b", "x.y", 'q"q', "[t]", "#", "", "é"])


def spelt(name: str) -> str:
    bare = name and all(char.isascii() and (char.isalnum() or char in "_-") for char in name)
    return name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


GAPS = st.sampled_from(["", "\n", "# [c] = 'x\n", "\n\n", "  \t\n"])
SCALARS = st.sampled_from(
    [
        "1",
        "-0.5e3",
        "true",
        '"s # ]}"',
        "'l\\'",
        '"""m\n]\n\\"" x"""',
        "'''\n\n}'''",
        "1979-05-27T07:32:00Z",
        '""',
        '""""""',
    ]
)


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 5)) if depth else 5
    if kind == 0:
        items = draw(st.lists(values(depth - 1), max_size=3))
        gap = draw(GAPS)
        return (
            "["
            + gap
            + f",{gap}".join(items)
            + draw(st.sampled_from(["", "", ","]) if items else st.just(""))
            + gap
            + "]"
        )
    if kind == 1:
        names = draw(st.lists(NAMES, max_size=3, unique=True))
        return "{" + ", ".join(f"{spelt(name)} = {draw(values(depth - 1))}" for name in names) + "}"
    return draw(SCALARS)


@st.composite
def pairs(draw: st.DrawFn) -> str:
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    return "".join(f"{draw(GAPS)} {spelt(name)} = {draw(values())}\n" for name in names)


@st.composite
def documents(draw: st.DrawFn) -> str:
    text = draw(pairs())
    headers = draw(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.booleans()), max_size=4))
    for names, repeated in headers:
        spelling = draw(st.sampled_from([".", " . "])).join(spelt(name) for name in names)
        text += (f"[[{spelling}]]" if repeated else f"[{spelling}]") + "\n" + draw(pairs())
    return text


def paths_in(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path} | {found for key, each in below for found in paths_in(each, (*path, key))}


@given(documents())
def test_every_path_that_tomllib_reads_is_found_and_no_other(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        reject()  # the same table twice
    assert set(key_lines(text)) == paths_in(tree) - {()}


@given(st.lists(st.tuples(NAMES, GAPS, SCALARS), unique_by=lambda part: part[0]))
def test_lines_are_counted_through_gaps_and_long_strings(parts: list[tuple[str, str, str]]) -> None:
    text, expected = "", {}
    for name, gap, value in parts:
        text += gap
        expected[(name,)] = text.count("\n") + 1
        text += f"{spelt(name)} = {value}\n"
    assert lines_of(text) == expected
