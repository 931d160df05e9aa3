"""What `holdfast check`, `status` and `up` say, as text."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.kernel.money import usd_from_nanodollars
from holdfast.tools.keys import columns


def welcome(url: str, key: str | None, key_name: str, model: str | None, *, scripted: bool) -> str:
    """What a starter reads: where it answers, the key where this start made it, and a first call that works as pasted.
    `key_name` is the environment variable that stands for a key nobody may see again."""
    lines = [f"Holdfast answers at {url}"]
    if key is not None:
        lines += ["", "Your first API key. It is shown this once; keep it:", "", f"  export HOLDFAST_KEY={key}"]
    if model is None:
        lines += ["", "No model is declared yet: docs/settings.md shows the smallest file."]
        return "\n".join(lines)
    if scripted:
        lines += ["", "No provider is configured, so the scripted model answers with made-up text."]
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    bearer = f"'Authorization: Bearer {key}'" if key is not None else f'"Authorization: Bearer ${key_name}"'
    lines += [
        "",
        "A first call:",
        "",
        f"  curl {url}/v1/chat/completions \\",
        f"    -H {bearer} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d {shlex.quote(body)}",
        "",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def stores(probed: Sequence[tuple[str, str | None]]) -> str:
    """A line a server that holds state: its setting, and what failed or `ok`."""
    return columns(
        ("store", "reached"), [(name, "ok" if failure is None else f"FAILED: {failure}") for name, failure in probed]
    )


def lanes(probed: Sequence[tuple[str, str, str | None]]) -> str:
    """A line a lane: model, lane, and what failed or `ok`."""
    rows = [(model, lane, "ok" if failure is None else f"FAILED: {failure}") for model, lane, failure in probed]
    return columns(("model", "lane", "reached"), rows)


def differences(found: Sequence[Mapping[str, Any]], *, repaired: bool) -> str:
    """What `check --money` found."""
    if not found:
        return "Every budget agrees with the calls."
    rows = [
        (
            each["held"]["scope"],
            each["held"]["period"],
            *(
                _dollars(each[side][f"{part}_nanodollars"])
                for part in ("spent", "reserved")
                for side in ("held", "recomputed")
            ),
        )
        for each in found
    ]
    heads = ("scope", "period", "spent", "by calls", "reserved", "by calls")
    said = "They were repaired." if repaired else "`holdfast check --money --repair` makes them what the calls say."
    return f"{columns(heads, rows)}\n\n{len(rows)} budgets disagree with the calls. {said}"


def status(found: Mapping[str, Any]) -> str:
    """What /readyz and the socket say of a process."""
    lines = ["ready" if found["ready"] else "NOT READY"]
    lines += [f"  {reason['code']}: {reason['what']}" for reason in found.get("reasons", ())]
    figures = {name: value for name, value in found.items() if name not in ("ready", "reasons", "findings", "latency")}
    lines += [f"{name:24}{value}" for name, value in figures.items()]
    if found.get("latency"):
        lines += ["", latency(found["latency"])]
    findings = found.get("findings", ())
    lines += ["", "what needs a person:" if findings else "nothing needs a person"]
    for finding in findings:
        lines += [
            f"  {finding['severity']} {finding['code']} ({finding['subject']})",
            f"    {finding['what']}",
            f"    {finding['todo']}",
        ]
    return "\n".join(lines)


def latency(rows: Sequence[Mapping[str, Any]]) -> str:
    """Percentiles by operation and model; never an average."""
    return columns(
        ("operation", "model", "what", "count", "p50", "p95", "p99"),
        [
            (
                row["operation"],
                row["model"],
                row["what"],
                str(row["count"]),
                *(f"{row[name]:.3g} s" for name in ("p50_seconds", "p95_seconds", "p99_seconds")),
            )
            for row in rows
        ],
    )


def _dollars(nanodollars: int) -> str:
    return f"${usd_from_nanodollars(nanodollars)}"
