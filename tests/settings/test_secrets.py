"""Secrets come from the environment or a file, and never come out again."""

import pytest

from holdfast.settings import shown
from tests.settings.said import Folder

SECRET = "sk-do-not-tell-0123456789"
UPSTREAM = '[upstreams.openai]\ndialect = "openai"\nbase_url = "https://api.openai.com/v1"\n'


def key_of(folder: Folder, spelt: str, environ: dict[str, str] | None = None) -> str | None:
    key = folder.load(UPSTREAM + f'key = "{spelt}"\n', environ).settings.upstreams["openai"].key
    return None if key is None else key.reveal()


def test_a_secret_is_read_from_where_it_says(folder: Folder) -> None:
    (folder.path / "key.txt").write_text(f"{SECRET}\n")
    assert key_of(folder, "file:key.txt") == SECRET
    assert key_of(folder, f"file:{folder.path}/key.txt") == SECRET
    assert key_of(folder, "env:OPENAI", {"OPENAI": SECRET}) == SECRET
    assert key_of(folder, SECRET) == SECRET
    assert key_of(folder, "none") is None


def test_the_files_of_secrets_are_named_for_watching_even_where_they_cannot_be_read(folder: Folder) -> None:
    (folder.path / "key.txt").write_text(SECRET)
    loaded = folder.load(UPSTREAM + 'key = "file:key.txt"\nheaders = { a = "file:key.txt" }\n')
    assert loaded.secret_files == (folder.path / "key.txt",)
    assert loaded.watched == (folder.file, folder.path / "key.txt")


@pytest.mark.parametrize(
    ("spelt", "said"),
    [
        ("env:NOT_SET", "the environment variable NOT_SET is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        ("file:missing.txt", "the secret file missing.txt cannot be read: No such file or directory"),
        ("file:empty.txt", "the secret file empty.txt is empty"),
        ("file:binary.txt", "the secret file binary.txt is not UTF-8 text"),
        ("file:lines.txt", "the secret holds a line break or another character that cannot be printed"),
        ("env:LINES", "the secret holds a line break or another character that cannot be printed"),
        ("", 'expected "env:NAME", "file:PATH", "none" or the secret itself; found empty text'),
    ],
)
def test_a_secret_that_is_not_there_is_an_error_that_names_the_place(folder: Folder, spelt: str, said: str) -> None:
    (folder.path / "empty.txt").write_text("\n")
    (folder.path / "binary.txt").write_bytes(b"\xff\xfe")
    (folder.path / "lines.txt").write_text(f"{SECRET}\n{SECRET}\n")
    environ = {"EMPTY": "", "LINES": f"{SECRET}\r\nX-Injected: 1"}
    problems = folder.problems(UPSTREAM + f'key = "{spelt}"\n', environ)
    assert problems == [f"holdfast.toml:4: [upstreams.openai] key: {said}"]
    assert SECRET not in problems[0]


def test_headers_are_secrets_too(folder: Folder) -> None:
    text = UPSTREAM + 'headers = { api-key = "env:AZURE", X-Title = "search" }\n'
    loaded = folder.load(text, {"AZURE": SECRET})
    headers = loaded.settings.upstreams["openai"].headers
    assert {name: value.reveal() for name, value in headers.items()} == {"api-key": SECRET, "X-Title": "search"}
    assert folder.problems(text) == [
        "holdfast.toml:4: [upstreams.openai.headers] api-key: the environment variable AZURE is not set"
    ]


EVERYTHING = f"""
[store]
postgres = "postgresql://user:{SECRET}@db/holdfast"
redis = "env:REDIS"
[upstreams.openai]
dialect = "openai"
base_url = "https://api.openai.com/v1"
key = "{SECRET}"
headers = {{ api-key = "{SECRET}" }}
[keys.app]
secret = "file:key.txt"
"""


def test_no_secret_is_in_what_is_shown_or_printed(folder: Folder) -> None:
    (folder.path / "key.txt").write_text(SECRET)
    loaded = folder.load(EVERYTHING, {"REDIS": f"redis://:{SECRET}@cache"})
    seen = shown(loaded.settings)
    for text in (repr(loaded), str(loaded), repr(loaded.settings), repr(seen), repr(dict(loaded.origin))):
        assert SECRET not in text
    assert seen["store"]["postgres"] == seen["store"]["redis"] == seen["keys"]["app"]["secret"] == "***"
    assert seen["upstreams"]["openai"]["key"] == "***"
    assert seen["upstreams"]["openai"]["headers"] == {"api-key": "***"}
    assert seen["keys"]["app"]["sha256"] is None
    assert seen["server"]["port"] == 8080
    assert seen["keys"]["app"]["models"] == []


def test_no_secret_is_in_an_error(folder: Folder) -> None:
    """Secrets in the wrong place, of the wrong type, twice, and under names that do not exist."""
    problems = folder.problems(
        f"""
        [keys.one]
        secret = "{SECRET}"
        [keys.two]
        secret = "env:TWO"
        [keys.three]
        secret = ["{SECRET}"]
        [keys.four]
        secrets = "{SECRET}"
        """,
        {"TWO": SECRET, "HOLDFAST_KEYS__ONE__SECRT": SECRET, "HOLDFAST_STORE__POSTGRES": f"{SECRET}\n"},
    )
    assert problems == [
        'environment HOLDFAST_KEYS__ONE__SECRT: unknown setting; did you mean "HOLDFAST_KEYS__ONE__SECRET"?',
        "environment HOLDFAST_STORE__POSTGRES: the secret holds a line break or another character that cannot be printed",
        "holdfast.toml:5: [keys.two] secret: is the same key as [keys.one]",
        'holdfast.toml:7: [keys.three] secret: expected text: "env:NAME", "file:PATH", "none" or the secret itself; found a list',
        'holdfast.toml:8: [keys.four] secret: is missing: say the key as "env:NAME" or "file:PATH", or its sha256',
        'holdfast.toml:9: [keys.four] unknown key "secrets"; did you mean "secret"?',
    ]
    assert SECRET not in "".join(problems)


def test_the_same_key_twice_is_found_by_its_digest_too(folder: Folder) -> None:
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc"
    assert folder.problems(f'[keys.a]\nsecret = "abc"\n[keys.b]\nsha256 = "{digest.upper()}"\n') == [
        "holdfast.toml:4: [keys.b] sha256: is the same key as [keys.a]"
    ]
