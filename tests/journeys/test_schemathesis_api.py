"""A fuzzer that reads the contract finds no 500, no undocumented answer, no broken promise of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.control import BOOTSTRAP, control

SEED = "20261120"


@pytest.mark.timeout(120)
def test_the_contract_holds_against_a_fuzzer(tmp_path: Path) -> None:
    with control(tmp_path / "data") as running:
        found = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{running.url}/api/openapi.json",
                "--header",
                f"Authorization: Bearer {BOOTSTRAP}",
                "--max-examples",
                "6",
                "--seed",
                SEED,
                "--no-color",
                "--output-sanitize",
                "false",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
        assert "Tested: 25" in found.stdout
