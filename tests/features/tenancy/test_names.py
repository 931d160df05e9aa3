"""Moments are RFC 3339, whole and with a zone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.features.tenancy.names import epoch_from_moment, moment_from_epoch, tenant_of
from holdfast.kernel.tenant import Tenant


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t01:00:00+01:00", 0),
        ("1969-12-31 23:30:00-00:30", 0),
        ("2016-12-31T23:59:60Z", 1483228800),
        ("1970-01-01T00:00:00.123456789Z", 0.123456789),
        ("0001-01-01T00:00:00+14:00", -62135596800 - 14 * 3600),
        ("9999-12-31T23:59:59-14:00", 253402300799 + 14 * 3600),
    ],
)
def test_a_moment_is_read(text: str, epoch: float) -> None:
    assert epoch_from_moment(text) == pytest.approx(epoch, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-20", "2026-11-20T12:00:00", "2026-02-31T00:00:00Z", "2026-11-20T24:00:00Z", "2026-W47-5T00:00:00Z",
     "2026-11-20T12:00:00Z\n", "2026-11-20T12:00:00+0100", "0000-01-01T00:00:00Z", "20261120T120000Z", "１970-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|day|year|range"):
        epoch_from_moment(text)


@given(st.floats(-62_135_596_800, 253_402_300_799))
def test_what_is_written_is_read_back(epoch: float) -> None:
    assert abs(epoch_from_moment(moment_from_epoch(epoch)) - epoch) <= 0.0011


@pytest.mark.parametrize("epoch", [-1e18, 1e18])
def test_beyond_the_calendar_stands_its_end(epoch: float) -> None:
    assert moment_from_epoch(epoch)[:4] in ("0001", "9999")


def test_a_team_is_spelt_with_its_organisation() -> None:
    assert tenant_of("acme/search") == Tenant("acme", "search")
    for text in ("acme", "acme/", "/search", "a/b/c", "a b/c"):
        with pytest.raises(ValueError, match="no team"):
            tenant_of(text)
