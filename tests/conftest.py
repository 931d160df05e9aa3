"""Where CI is set, a machine lacks nothing: a test of a real engine or browser that skips there has failed."""

import os
from collections.abc import Generator

import pytest

NEVER_SKIPPED = ("engines", "browser")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marks = [name for name in NEVER_SKIPPED if item.get_closest_marker(name) is not None]
    if report.skipped and marks and in_ci() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"marked {', '.join(marks)} and skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself hides the marks of its tests, so none may."""
    report = yield
    if report.outcome == "skipped" and in_ci():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself, which CI does not allow: {report.longrepr}"
    return report
