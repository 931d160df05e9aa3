"""Settings from the environment and from flags: which goes before which, how they are read, and what is no setting."""

from pathlib import Path

import pytest

from holdfast.kernel.environment import RESERVED
from holdfast.settings import load
from tests.settings.said import MODEL, Folder


def test_flags_go_before_the_environment_before_the_file_before_the_default(folder: Folder) -> None:
    folder.write("[server]\nport = 1\nhost = '::1'\ngrace_seconds = 4\n")
    environ = {"HOLDFAST_SERVER__PORT": "2", "HOLDFAST_SERVER__HOST": "127.0.0.2"}
    server = folder.load(environ=environ, flags={"server.port": 3, "server.api_port": None}).settings.server
    assert (server.port, server.host, server.grace_seconds, server.api_port) == (3, "127.0.0.2", 4.0, None)


def test_text_is_read_as_the_settings_own_type() -> None:
    settings = load(
        None,
        {
            "HOLDFAST_SERVER__PORT": "9000",
            "holdfast_server__grace_seconds": "1.5",
            "HOLDFAST_SERVER__REUSE_PORT": "TRUE",
            "HOLDFAST_UPSTREAMS__OPENAI__DIALECT": "openai",
            "HOLDFAST_UPSTREAMS__OPENAI__BASE_URL": "https://api.openai.com/v1",
            "HOLDFAST_UPSTREAMS__OPENAI__KEY": "env:OPENAI_API_KEY",
            "HOLDFAST_UPSTREAMS__OPENAI__HEADERS__X-TEAM": "search",
            "HOLDFAST_MODELS__CHAT__LANES": "openai/gpt-4o, openai/gpt-4.1",
            "HOLDFAST_ORGANISATIONS__ACME__TEAMS__SEARCH__CONCURRENT": "7",
            "HOLDFAST_PRICES__MINE__INPUT_USD": "0.10",
            "HOLDFAST_PRICES__MINE__OUTPUT_USD": "1",
            "OPENAI_API_KEY": "sk-1",
        },
        {"server.keep_alive_seconds": "60", "store.data": Path("/srv/data")},
    ).settings
    assert settings.server.port == 9000
    assert settings.server.grace_seconds == 1.5
    assert settings.server.reuse_port is True
    assert settings.server.keep_alive_seconds == 60.0
    assert settings.store.data == "/srv/data"
    assert settings.models["chat"].lanes == ("openai/gpt-4o", "openai/gpt-4.1")
    assert settings.organisations["acme"].teams["search"].concurrent == 7
    assert settings.prices["mine"].input_usd == "0.1"
    openai = settings.upstreams["openai"]
    assert openai.key is not None
    assert openai.key.reveal() == "sk-1"
    assert openai.headers["x-team"].reveal() == "search"


def test_an_object_of_the_file_is_found_though_its_name_fits_no_variable(folder: Folder) -> None:
    folder.write("[keys.My-App]\nsha256 = '" + "a" * 64 + "'\n[keys.other]\nsha256 = '" + "b" * 64 + "'\n")
    keys = folder.load(environ={"HOLDFAST_KEYS__MY_APP__CONCURRENT": "3"}).settings.keys
    assert {name: key.concurrent for name, key in keys.items()} == {"My-App": 3, "other": None}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOLDFAST_SERVER__PROT", "1", 'unknown setting; did you mean "HOLDFAST_SERVER__PORT"?'),
        ("HOLDFAST_SERVER_PORT", "1", 'unknown setting; did you mean "HOLDFAST_SERVER__PORT"?'),
        ("HOLDFAST_PORT", "1", "unknown setting"),
        ("HOLDFAST_SERVR__PORT", "1", 'unknown setting; did you mean "HOLDFAST_SERVER__PORT"?'),
        ("HOLDFAST_UPSTREAMS__OPENAI__KEYS", "k", 'unknown setting; did you mean "HOLDFAST_UPSTREAMS__OPENAI__KEY"?'),
        ("HOLDFAST_SERVER__PORT__X", "1", 'unknown setting; did you mean "HOLDFAST_SERVER__PORT"?'),
        ("HOLDFAST_ZZZ", "1", "unknown setting"),
        ("HOLDFAST_", "1", "unknown setting"),
        ("HOLDFAST_SERVER__PORT", "", 'expected a whole number, found ""'),
        ("HOLDFAST_SERVER__PORT", "abc", 'expected a whole number, found "abc"'),
        ("HOLDFAST_SERVER__PORT", "70000", "must be from 0 to 65535"),
        ("HOLDFAST_SERVER__REUSE_PORT", "maybe", 'expected true or false, found "maybe"'),
        ("HOLDFAST_SERVER", "x", 'expected a table, found "x"'),
        ("HOLDFAST_LOGS__LEVEL", "inf", 'must be one of "debug", "info", "warning", "error"; did you mean "info"?'),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_by_its_name(folder: Folder, name: str, value: str, said: str) -> None:
    assert folder.problems("", {name: value}) == [f"environment {name}: {said}"]


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("server.prot", 1, 'unknown setting; did you mean "server.port"?'),
        ("server.port", "x", 'expected a whole number, found "x"'),
        ("server.port", True, "expected a whole number, found true"),
    ],
)
def test_what_is_wrong_in_a_flag_is_said_by_its_path(folder: Folder, flag: str, value: object, said: str) -> None:
    assert folder.problems("", flags={flag: value}) == [f"flag {flag}: {said}"]


def test_reserved_names_and_those_kubernetes_sets_are_no_settings(folder: Folder) -> None:
    environ = {
        **dict.fromkeys(RESERVED, "x"),
        "HOLDFAST_SERVICE_HOST": "10.0.0.1",
        "HOLDFAST_SERVICE_PORT": "8080",
        "HOLDFAST_SERVICE_PORT_HTTP": "8080",
        "HOLDFAST_PORT": "tcp://10.0.0.1:8080",
        "HOLDFAST_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "HOLDFAST_PORT_8080_TCP_ADDR": "10.0.0.1",
        "HOLDFAST_REDIS_SERVICE_HOST": "10.0.0.2",
        "HOLDFAST_SERVER_PORT": "tcp://10.0.0.2:8080",
        "PATH": "/bin",
    }
    assert folder.problems("", environ) == []


def test_the_nearest_setting_is_found_in_tables_the_file_names(folder: Folder) -> None:
    assert folder.problems(MODEL, {"HOLDFAST_MODELS__CHAT__LANS": "openai/x"}) == [
        'environment HOLDFAST_MODELS__CHAT__LANS: unknown setting; did you mean "HOLDFAST_MODELS__CHAT__LANES"?'
    ]


def test_what_the_environment_began_and_left_half_said_names_the_variable(folder: Folder) -> None:
    assert folder.problems("", {"HOLDFAST_UPSTREAMS__X__BASE_URL": "http://x"}) == [
        (
            'environment HOLDFAST_UPSTREAMS__X__BASE_URL: [upstreams.x] "dialect" is missing: '
            "How this provider spells a call."
        )
    ]


def test_a_lane_from_the_environment_is_checked_like_any_other(folder: Folder) -> None:
    assert folder.problems(MODEL, {"HOLDFAST_MODELS__CHAT__LANES": "opnai/gpt-4o"}) == [
        (
            'environment HOLDFAST_MODELS__CHAT__LANES: [models.chat] lanes[0]: "opnai/gpt-4o": '
            'there is no upstream "opnai"; did you mean "openai"?'
        )
    ]
