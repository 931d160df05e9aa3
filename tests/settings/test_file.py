"""What a settings file may say, and what is said of its mistakes: all of them, with line and nearest known name."""

from datetime import datetime
from pathlib import Path

import pytest

from holdfast.kernel.errors import SettingsError
from holdfast.settings import Settings, load
from tests.settings.said import MODEL, Folder

SMALLEST = """\
[upstreams.mock]
dialect = "openai"
base_url = "http://127.0.0.1:9100/v1"
key = "none"                      # or "env:NAME", "file:PATH"

[models.mock]
lanes = ["mock/mock"]             # upstream/model, in order of preference
"""


def test_the_smallest_useful_file_is_enough(folder: Folder) -> None:
    settings = folder.load(SMALLEST).settings
    assert settings.upstreams["mock"].key is None
    assert settings.models["mock"].lanes == ("mock/mock",)
    assert settings.server == Settings().server


def test_without_a_file_everything_has_its_default() -> None:
    assert load(None, {}, {}).settings == Settings()


def test_every_mistake_is_said_at_once_with_its_line_and_the_nearest_name(folder: Folder) -> None:
    said = folder.problems(
        """\
        [server]
        prot = 8080
        port = "eighty"
        keep_alive_seconds = 0

        [upstream.openai]
        dialect = "openai"

        [upstreams.openai]
        dialect = "opnai"
        base_url = "ftp://api.openai.com"

        [models.chat]
        lanes = ["opnai/gpt-4o", "gpt-4o", "openai/gpt-4o", "openai/gpt-4o"]

        [routes.chat]
        budgt_mode = "strict"
        on_disconnect = "canel"
        model = "chatt"
        key = "mobile"
        """
    )
    assert said == [
        'holdfast.toml:2: [server] unknown key "prot"; did you mean "port"?',
        'holdfast.toml:3: [server] port: expected a whole number, found "eighty"',
        "holdfast.toml:4: [server] keep_alive_seconds: must be at least 1",
        'holdfast.toml:6: unknown table "upstream"; did you mean "upstreams"?',
        'holdfast.toml:10: [upstreams.openai] dialect: must be one of "openai", "scripted"; did you mean "openai"?',
        "holdfast.toml:11: [upstreams.openai] base_url: must be a URL that begins with http:// or https://",
        'holdfast.toml:14: [models.chat] lanes[0]: "opnai/gpt-4o": there is no upstream "opnai"; did you mean "openai"?',
        'holdfast.toml:14: [models.chat] lanes[1]: "gpt-4o" is not spelt upstream/model',
        'holdfast.toml:14: [models.chat] lanes[3]: "openai/gpt-4o" stands in the list twice',
        'holdfast.toml:17: [routes.chat] unknown key "budgt_mode"; did you mean "budget_mode"?',
        'holdfast.toml:18: [routes.chat] on_disconnect: must be one of "linger", "cancel", "finish"; did you mean "cancel"?',
        'holdfast.toml:19: [routes.chat] model: there is no model "chatt"; did you mean "chat"?',
        'holdfast.toml:20: [routes.chat] key: there is no key "mobile"',
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = true", "holdfast.toml:2: [server] port: expected a whole number, found true"),
        ("[server]\nport = 1.5", "holdfast.toml:2: [server] port: expected a whole number, found 1.5"),
        ("[server]\nport = 65536", "holdfast.toml:2: [server] port: must be from 0 to 65535"),
        ("[server]\nport = [1]", "holdfast.toml:2: [server] port: expected a whole number, found a list"),
        ("[server]\nport = {}", "holdfast.toml:2: [server] port: expected a whole number, found a table"),
        ("[server]\nhost = 1", "holdfast.toml:2: [server] host: expected text, found 1"),
        ('[server]\nhost = ""', "holdfast.toml:2: [server] host: is empty"),
        ("[server]\nhost = 2026-11-20", "holdfast.toml:2: [server] host: expected text, found a date or time"),
        ("[server]\nreuse_port = 1", "holdfast.toml:2: [server] reuse_port: expected true or false, found 1"),
        ('[server]\ngrace_seconds = "1"', 'holdfast.toml:2: [server] grace_seconds: expected a number, found "1"'),
        ("[server]\ngrace_seconds = nan", "holdfast.toml:2: [server] grace_seconds: expected a finite number, found nan"),
        ("[server]\ngrace_seconds = inf", "holdfast.toml:2: [server] grace_seconds: expected a finite number, found inf"),
        (f"[server]\nmax_body_bytes = {2**63}", "holdfast.toml:2: [server] max_body_bytes: is too large a number"),
        ("server = 3", "holdfast.toml:1: server: expected a table, found 3"),
        ("[[server]]\nport = 1", "holdfast.toml:1: server: expected a table, found a list"),
        ("models = { a = 3 }", "holdfast.toml:1: [models] a: expected a table, found 3"),
        ('[server]\nhost = "a\\u0000b"', "holdfast.toml:2: [server] host: holds a character that cannot be used: U+0000"),
        (
            '[server]\ntls_certificate = "a.pem"',
            "holdfast.toml:2: [server] tls_certificate: needs tls_key beside it",
        ),
        ('[server]\ntls_key = "a.pem"', "holdfast.toml:2: [server] tls_key: needs tls_certificate beside it"),
        ('[server]\napi_host = "::1"', "holdfast.toml:2: [server] api_host: needs api_port beside it"),
        ("[traces]\nsample = 2", "holdfast.toml:2: [traces] sample: must be from 0 to 1"),
        ("[models.m]\nlanes = []", "holdfast.toml:2: [models.m] lanes: is empty: a model needs a lane to go to"),
        ('[models.m]\nlanes = "a/b"', 'holdfast.toml:2: [models.m] lanes: expected a list of text, found "a/b"'),
        ("[models.m]\nlanes = [1]", "holdfast.toml:2: [models.m] lanes[0]: expected text, found 1"),
        (
            "[models.m]",
            'holdfast.toml:1: [models.m] "lanes" is missing: Where a call can go, "upstream/model", in order of preference.',
        ),
        (
            '[upstreams.u]\ndialect = "openai"',
            'holdfast.toml:1: [upstreams.u] base_url: the dialect "openai" needs it, for example "https://api.openai.com/v1"',
        ),
        (
            '[upstreams.u]\ndialect = "scripted"\nbase_url = "http://x"',
            'holdfast.toml:3: [upstreams.u] base_url: the dialect "scripted" answers in this process and has none',
        ),
        (
            '[upstreams.u]\ndialect = "openai"\nbase_url = "https://user:pass@x/v1"',
            ("holdfast.toml:3: [upstreams.u] base_url: must not hold a user name or password: "
            "a URL is shown in logs and on the settings page"),
        ),
        (
            '[upstreams.u]\ndialect = "openai"\nbase_url = "http://[::1"',
            "holdfast.toml:3: [upstreams.u] base_url: is not a URL",
        ),
        (
            '[upstreams.u]\ndialect = "openai"\nbase_url = "http://x"\nclient_key = "k.pem"',
            "holdfast.toml:4: [upstreams.u] client_key: means nothing without client_certificate",
        ),
        (
            '[upstreams.u]\ndialect = "openai"\nbase_url = "http://x"\nproxy = "socks5://x"',
            "holdfast.toml:4: [upstreams.u] proxy: must be a URL that begins with http:// or https://",
        ),
        (
            '[upstreams.u]\ndialect = "openai"\nbase_url = "http://x"\nheaders = { "Content-Length" = "1" }',
            'holdfast.toml:4: [upstreams.u] headers: "Content-Length" is no header that can be added',
        ),
        (
            '[upstreams."a/b"]\ndialect = "openai"\nbase_url = "http://x"',
            'holdfast.toml:1: [upstreams] "a/b": a name is 1 to 64 letters, digits, dots, underscores or hyphens',
        ),
        ("[organisations.acme.teams.'..']", ('holdfast.toml:1: [organisations.acme.teams] "..": a name is 1 to 64 letters, '
         "digits, dots, underscores or hyphens")),
    ],
)  # fmt: skip
def test_a_wrong_value_says_what_was_expected_and_what_was_found(folder: Folder, text: str, said: str) -> None:
    assert folder.problems(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server\n", "holdfast.toml:1: not TOML: Expected ']' at the end of a table declaration"),
        ("[server]\n\nport = \n", "holdfast.toml:3: not TOML: Invalid value"),
        ("[server]\nport = 1\nport = 2\n", "holdfast.toml:3: not TOML: Cannot overwrite a value"),
        ('[server]\nhost = """x\n\n', "holdfast.toml:2: not TOML: Unterminated string"),
        ("a = " + "[" * 5000 + "]" * 5000, "holdfast.toml: nested too deeply"),
    ],
)
def test_what_is_not_toml_is_one_error_and_hides_no_line(folder: Folder, text: str, said: str) -> None:
    assert folder.problems(text, environ={"HOLDFAST_UPSTREAMS__X__KEY": "k"}) == [said]


def test_a_file_that_is_not_there_or_no_text_is_an_error(folder: Folder) -> None:
    assert folder.problems() == ["holdfast.toml: cannot be read: No such file or directory"]
    folder.file.write_bytes(b"[server]\n# \xff\n")
    assert folder.problems() == ["holdfast.toml:2: not UTF-8 text"]


def test_a_byte_order_mark_is_no_part_of_the_text(folder: Folder) -> None:
    folder.file.write_bytes(b"\xef\xbb\xbf[server]\nport = 1\n")
    assert folder.load().settings.server.port == 1


def test_a_route_leaves_to_the_defaults_what_it_does_not_say(folder: Folder) -> None:
    settings = folder.load(
        """
        [defaults]
        linger_seconds = 3
        budget_mode = "strict"

        [routes.b]
        linger_seconds = 5
        [routes.a]
        budget_mode = "expected"
        """,
        {"HOLDFAST_ROUTES__A__MAX_ATTEMPTS": "9", "HOLDFAST_DEFAULTS__JOB_SECONDS": "7"},
    ).settings
    assert list(settings.routes) == ["b", "a"]
    assert [(r.linger_seconds, r.budget_mode, r.max_attempts, r.job_seconds) for r in settings.routes.values()] == [
        (5.0, "strict", 3, 7.0),
        (3.0, "expected", 9, 7.0),
    ]


def test_whole_numbers_are_numbers_too(folder: Folder) -> None:
    seconds = folder.load("[server]\ngrace_seconds = 30").settings.server.grace_seconds
    assert (seconds, type(seconds)) == (30.0, float)


def test_amounts_are_exact_however_they_are_written(folder: Folder) -> None:
    text = MODEL + "".join(
        f"[organisations.o{index}]\nbudgets = [{{ limit_usd = {amount} }}]\n"
        for index, amount in enumerate(['"250"', "250", "0.10", '"0.100"', '" 1e2 "', "1e-7", '"0"'])
    )
    organisations = folder.load(text).settings.organisations
    assert [each.budgets[0].limit_usd for each in organisations.values()] == [
        "250", "250", "0.1", "0.1", "100", "0.0000001", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ('"ten"', 'limit_usd: is not an amount of dollars, such as "2.50"'),
        ('"nan"', 'limit_usd: is not an amount of dollars, such as "2.50"'),
        ("inf", 'limit_usd: is not an amount of dollars, such as "2.50"'),
        ("-1", "limit_usd: must be from 0 to 1000000000 dollars"),
        ('"1e-999999"', "limit_usd: may have nine decimals at most: a billionth of a dollar is the smallest amount"),
        ('"1e999999"', "limit_usd: must be from 0 to 1000000000 dollars"),
        ("true", "limit_usd: expected text, found true"),
        ("[1]", "limit_usd: expected text, found a list"),
    ],
)
def test_what_is_no_amount_is_refused(folder: Folder, amount: str, said: str) -> None:
    text = f"[keys.k]\nsecret = 'abc'\n\n[[keys.k.budgets]]\nlimit_usd = {amount}\n"
    assert folder.problems(text) == [f"holdfast.toml:5: [[keys.k.budgets]] {said}"]


def test_budgets_name_time_zones_that_exist(folder: Folder) -> None:
    text = "[[organisations.o.budgets]]\nlimit_usd = 1\ntime_zone = '{}'\n"
    assert folder.problems(text.format("Europe/Berlin")) == []
    assert folder.problems(text.format("UTC")) == []
    where = "holdfast.toml:3: [[organisations.o.budgets]] time_zone"
    assert folder.problems(text.format("Europe/Berln")) == [
        f'{where}: "Europe/Berln" is no time zone; did you mean "Europe/Berlin"?'
    ]
    assert folder.problems(text.format("../etc/passwd")) == [
        f'{where}: "../etc/passwd" is no time zone, such as "Europe/Berlin"'
    ]


KEY = "[keys.app]\nsha256 = '" + "a" * 64 + "'\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00+00:00"),
        ("'2027-01-31T00:00:00Z'", "2027-01-31T00:00:00+00:00"),
        ("2027-01-31 00:00:00+01:00", "2027-01-31T00:00:00+01:00"),
    ],
)
def test_a_moment_may_be_text_or_tomls_own(folder: Folder, value: str, text: str) -> None:
    moment = folder.load(KEY + f"expires_at = {value}").settings.keys["app"].expires_at
    assert moment == text
    assert datetime.fromisoformat(moment).tzinfo is not None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("expires_at = '2027-01-31'", "expires_at: needs a time zone: end it with Z, or with an offset such as +01:00"),
        ("expires_at = 2027-01-31T00:00:00", "expires_at: needs a time zone: end it with Z, or with an offset such as +01:00"),
        ("expires_at = 'soon'", "expires_at: must be a moment, for example 2027-01-31T00:00:00Z"),
        ("expires_at = 2027-01-31", "expires_at: expected text, found a date or time"),
        ("team = 'acme'", 'team: must be spelt organisation/team, for example "acme/search"'),
        ("team = 'acmee/search'", 'team: there is no organisation "acmee"; did you mean "acme"?'),
        ("team = 'acme/serch'", 'team: organisation "acme" has no team "serch"; did you mean "search"?'),
        ("team = 'default/other'", 'team: there is no organisation "default"'),
        ("role = 'admn'", 'role: must be one of "none", "viewer", "operator", "admin"; did you mean "admin"?'),
        ("models = ['chta']", 'models[0]: there is no model "chta"; did you mean "chat"?'),
    ],
)  # fmt: skip
def test_what_a_key_says_is_checked(folder: Folder, more: str, said: str) -> None:
    text = KEY + more + "\n" + MODEL + "[organisations.acme.teams.search]\n"
    where = f"holdfast.toml:3: [keys.app] {said}"
    assert folder.problems(text) == [where]


def test_a_key_may_belong_to_a_declared_team_or_to_none(folder: Folder) -> None:
    text = KEY + "team = 'acme/search'\n[organisations.acme.teams.search]\n"
    assert folder.load(text).settings.keys["app"].team == "acme/search"
    assert folder.load(KEY).settings.keys["app"].team == "default/default"


def test_a_key_has_exactly_one_of_secret_and_sha256(folder: Folder) -> None:
    assert folder.problems("[keys.app]") == [
        'holdfast.toml:1: [keys.app] secret: is missing: say the key as "env:NAME" or "file:PATH", or its sha256'
    ]
    assert folder.problems(KEY + "secret = 'abc'") == [
        "holdfast.toml:2: [keys.app] sha256: cannot stand beside secret: say one of them"
    ]
    assert folder.problems("[keys.app]\nsha256 = 'abc'") == [
        "holdfast.toml:2: [keys.app] sha256: must be 64 hexadecimal digits"
    ]


def test_a_mistake_is_said_once(folder: Folder) -> None:
    """A lane to an upstream whose own table is wrong is no second mistake, and neither is what a wrong value would imply."""
    said = folder.problems("[upstreams.u]\nbase_url = 3\n[models.m]\nlanes = ['u/x']\n[keys.k]\nsecret = 3\n")
    assert said == [
        'holdfast.toml:1: [upstreams.u] "dialect" is missing: How this provider spells a call.',
        "holdfast.toml:2: [upstreams.u] base_url: expected text, found 3",
        'holdfast.toml:6: [keys.k] secret: expected text: "env:NAME", "file:PATH", "none" or the secret itself; found a number',
    ]


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ("input_usd = 1", 'output_usd: is missing: a price says input_usd and output_usd (0 where there is none), or free = true'),
        ("free = true\ninput_usd = 1", "input_usd: cannot stand beside free = true"),
        ("input_usd = 0.0000001\noutput_usd = 1", "input_usd: may have six decimals at most"),
        ("input_usd = 1\noutput_usd = 1\nlong_input_usd = 2", "long_input_usd: means nothing without long_context_above_tokens"),
        (
            "input_usd = 1\noutput_usd = 1\nlong_context_above_tokens = 5",
            "long_context_above_tokens: means nothing without long_input_usd or long_output_usd",
        ),
        ("input_usd = 1\noutput_usd = 1\ncached_usd = 2", 'unknown key "cached_usd"; did you mean "cached_read_usd"?'),
    ],
)  # fmt: skip
def test_what_a_price_says_is_checked(folder: Folder, price: str, said: str) -> None:
    problems = folder.problems('[prices."gpt-4.1"]\n' + price)
    assert [problem.partition("] ")[2] for problem in problems] == [said]
    assert problems[0].partition(":")[2].partition(": ")[2].startswith('[prices."gpt-4.1"] ')


def test_only_loopback_may_serve_the_scripted_model(folder: Folder) -> None:
    text = '[upstreams.demo]\ndialect = "scripted"\n[server]\nhost = "{}"\n'
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1"):
        assert folder.problems(text.format(host)) == []
    for host in ("::", "192.168.0.1", "10.0.0.1", "example.com"):
        assert folder.problems(text.format(host)) == [
            'holdfast.toml:4: [server] host: upstream "demo" is scripted, so only a loopback address will do'
        ]


def test_origins_say_where_everything_comes_from(folder: Folder) -> None:
    loaded = folder.load(
        "[server]\nport = 1\nhost = '::1'\n\n[keys.app]\nsecret = 'abc'\n",
        {"HOLDFAST_SERVER__PORT": "2", "HOLDFAST_LOGS__LEVEL": "debug"},
        {"server.host": "127.0.0.1"},
    )
    assert loaded.source == folder.file
    assert {
        path: loaded.origin_of(path) for path in ("server.port", "server.host", "logs.level", "server.api_port")
    } == {
        "server.port": "environment",
        "server.host": "flag",
        "logs.level": "environment",
        "server.api_port": "default",
    }
    assert loaded.origin_of("keys.app") == f"{folder.file}:5"
    assert loaded.origin["keys.app.secret"] == f"{folder.file}:6"


def test_load_raises_one_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "none.toml", {}, {})
    assert caught.value.code == "invalid_settings"
