"""A background job that ends by a defect is a finding."""

import asyncio
import logging

import pytest

from holdfast.app import supervised
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.findings import Findings


async def test_a_job_that_ends_by_a_defect_is_a_finding_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    findings = Findings(VirtualClock())

    async def job() -> None:
        raise ValueError("a defect")

    with caplog.at_level(logging.ERROR):
        await asyncio.wait([supervised(job(), findings)])
        await asyncio.sleep(0)
    (finding,) = findings.all()
    assert finding.code == "job_ended"
    assert "job" in finding.subject
    assert "a defect" in finding.what
    assert "a background job ended" in caplog.text


async def test_a_job_that_is_stopped_is_none() -> None:
    findings = Findings(VirtualClock())
    task = supervised(asyncio.sleep(60), findings)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert findings.all() == []
