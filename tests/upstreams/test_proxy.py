"""Which proxy is chosen, and whom NO_PROXY exempts."""

import pytest

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.address import parse_base_url
from holdfast.upstreams.proxy import bypasses, choose_proxy

SECURE = parse_base_url("acme", "https://api.example.com/v1")
PLAIN = parse_base_url("acme", "http://api.example.com/v1")


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "exempt"),
    [
        ("", "api.example.com", 443, False),
        ("*", "api.example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        (".example.com", "api.example.com", 443, True),
        (".example.com", "example.com", 443, False),
        ("*.example.com", "api.example.com", 443, True),
        ("EXAMPLE.com", "api.Example.COM.", 443, True),
        ("example.com:443", "api.example.com", 443, True),
        ("example.com:8443", "api.example.com", 443, False),
        ("other, example.com", "example.com", 443, True),
        ("other example.com", "example.com", 443, True),
        ("other,,", "example.com", 443, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:81", "127.0.0.1", 80, False),
        ("10.0.0.0/8", "10.20.30.40", 80, True),
        ("10.0.0.1/8", "10.20.30.40", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("0.0.1", "127.0.0.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "0:0:0:0:0:0:0:1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("localhost", "localhost", 80, True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, exempt: bool) -> None:
    assert bypasses(no_proxy, host, port) is exempt


def test_the_scheme_says_which_variable_is_read() -> None:
    environ = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://secure:2"}
    for address, host in ((PLAIN, "plain"), (SECURE, "secure")):
        proxy = choose_proxy("acme", None, address, environ)
        assert proxy is not None
        assert proxy.host == host
    assert choose_proxy("acme", None, PLAIN, {"HTTPS_PROXY": "http://secure:2", "ALL_PROXY": "http://x"}) is None
    assert choose_proxy("acme", None, SECURE, {"HTTPS_PROXY": ""}) is None


def test_the_setting_wins_over_the_environment_and_over_no_proxy() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    proxy = choose_proxy("acme", "http://mine:3128", SECURE, environ)
    assert proxy is not None
    assert (proxy.host, proxy.port) == ("mine", 3128)
    assert choose_proxy("acme", "none", SECURE, {"HTTPS_PROXY": "http://other:1"}) is None


def test_a_proxy_may_be_named_without_its_scheme_and_its_password_is_not_shown() -> None:
    proxy = choose_proxy("acme", None, SECURE, {"https_proxy": "me:hush@gate.example:3128"})
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.shown) == ("gate.example", 3128, "http://gate.example:3128")
    assert "hush" not in repr(proxy)
    assert proxy.authorization == b"Basic bWU6aHVzaA=="


@pytest.mark.parametrize(
    "url", ["https://gate:1", "socks5://me:hush@gate:1", "http://", "http://gate:99999", "http://a..b:1"]
)
def test_a_proxy_that_cannot_be_used_is_refused_naming_where_it_was_said_and_no_secret(url: str) -> None:
    with pytest.raises(SettingsError, match=r"upstreams\.acme\.proxy ") as by_setting:
        choose_proxy("acme", url, SECURE, {})
    with pytest.raises(SettingsError, match=r"HTTPS_PROXY .*'acme'") as by_environment:
        choose_proxy("acme", None, SECURE, {"HTTPS_PROXY": url})
    assert "hush" not in by_setting.value.message + by_environment.value.message
