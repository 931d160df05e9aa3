"""A histogram out of a Prometheus page."""

import http.client
import re

from holdfast.tools.bench.wire import Address

BUCKET = re.compile(
    r'^(?P<name>\w+)_bucket\{(?:[^}]*,)?le="(?P<bound>[^"]+)"[^}]*\} (?P<count>[0-9.eE+]+)', re.MULTILINE
)


def fetch(address: Address, key: str) -> str:
    """The server's /metrics; empty when it has none."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        return text if answer.status == http.client.OK else ""
    finally:
        connection.close()


def histogram(page: str, name: str) -> dict[float, float]:
    """Upper bound -> how many were at or below it, label values added up."""
    found: dict[float, float] = {}
    for bucket in BUCKET.finditer(page):
        if bucket["name"] == name:
            bound = float(bucket["bound"])
            found[bound] = found.get(bound, 0.0) + float(bucket["count"])
    return found


def quantile_between(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The upper bound of the bucket in which that share of what happened between two readings lies."""
    grown = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    wanted = share * max(grown.values(), default=0.0)
    return next((bound for bound, count in grown.items() if count >= wanted), 0.0)
