"""`holdfast keys`: the control API's keys, as lines on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.tools.remote import Remote, RemoteError

ID_PREFIX = "key_"


def listed(remote: Remote, *, revoked: bool) -> list[dict[str, Any]]:
    """Every key, page by page."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = remote.get("/api/keys", {"revoked": "true" if revoked else None, "limit": "1000", "after": after})
        found += page["keys"]
        after = page["next"]
        if after is None:
            return found


def one(remote: Remote, key: str) -> dict[str, Any]:
    """A key by its id or, where only one has it, its name."""
    if key.startswith(ID_PREFIX):
        found: dict[str, Any] = remote.get(f"/api/keys/{key}", {"revoked": "true"})
        return found
    named: list[dict[str, Any]] = remote.get("/api/keys", {"name": key})["keys"]
    if len(named) == 1:
        return named[0]
    if not named:
        raise RemoteError(f"There is no key named {key}; `holdfast keys list` shows them.")
    ids = ", ".join(f"{each['id']} of {each['organisation']}/{each['team']}" for each in named)
    raise RemoteError(f"{len(named)} keys are named {key}; say which by its id: {ids}.")


def table(keys: list[dict[str, Any]]) -> str:
    """A line a key."""
    heads = ("name", "id", "team", "role", "calls", "models", "expires", "hint", "from")
    rows = [
        (
            each["name"] + (" (revoked)" if each["revoked_at"] is not None else ""),
            each["id"],
            f"{each['organisation']}/{each['team']}",
            each["role"],
            "yes" if each["may_call"] else "no",
            ",".join(each["models"]) or "all",
            each["expires_at"] or "never",
            each["hint"],
            each["origin"] or "api",
        )
        for each in keys
    ]
    return columns(heads, rows)


def card(key: Mapping[str, Any]) -> str:
    """Everything known of one key."""
    limits = {name: value for name, value in key["limits"].items() if value not in (None, [])}
    shown = {
        **key,
        "limits": limits or "none",
        "models": ", ".join(key["models"]) or "all",
        "tags": ", ".join(key["tags"]),
    }
    return "\n".join(
        f"{name:18}{value}" for name, value in shown.items() if value not in (None, "") and name != "secret"
    )


def columns(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(line[at]) for line in [heads, *rows]) for at in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, *rows]
    ]
    return "\n".join(lines)
