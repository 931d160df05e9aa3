"""What a name may look like, and how a moment is written."""

import re
from datetime import UTC, datetime

from holdfast.kernel.errors import InvalidRequestError
from holdfast.kernel.tenant import Tenant

NAME_PATTERN = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"
KEY_ID_PATTERN = r"key_[0-9a-f]{32}"
MOMENT_PATTERN = (
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


def is_name(text: str) -> bool:
    """1 to 64 letters, digits, dots, underscores or hyphens, the first one no dot: a name can stand in a path."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def check_name(text: str, param: str) -> str:
    if not is_name(text):
        raise InvalidRequestError(
            f"{param} must be 1 to 64 letters, digits, dots, underscores or hyphens, and not begin with a dot.",
            param=param,
        )
    return text


def tenant_of(text: str) -> Tenant:
    """`acme/search`; ValueError for anything else."""
    organisation, slash, team = text.partition("/")
    if not slash or not is_name(organisation) or not is_name(team):
        raise ValueError(f"{text!r} is no team; write organisation/team, for example acme/search")
    return Tenant(organisation, team)


def epoch_from_moment(text: str) -> float:
    """RFC 3339 with its zone, to seconds since the epoch; ValueError for anything else. A leap second is the one after it."""
    matched = re.fullmatch(MOMENT_PATTERN, text)
    if matched is None:
        raise ValueError(f"{text!r} is no moment; write it as RFC 3339 says, for example 2027-01-31T00:00:00Z")
    year, month, day, hour, minute, second = (int(matched.group(place)) for place in range(1, 7))
    fraction, zone = float("0" + (matched.group(7) or ".0")), matched.group(8)
    offset_seconds = 0
    if zone not in ("Z", "z"):
        offset_seconds = (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * (-1 if zone[0] == "-" else 1)
    start = datetime(year, month, day, hour, minute, tzinfo=UTC)  # ValueError for the 31st of February
    return start.timestamp() + second + fraction - offset_seconds


def moment_from_epoch(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond; beyond the calendar's ends, its ends."""
    bounded = min(max(at, -62135596800.0), 253402300799.0)
    return datetime.fromtimestamp(bounded, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
