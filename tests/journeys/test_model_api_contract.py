"""The contract of the model API: a fuzzer that reads it finds no 5xx, no undocumented answer and no broken promise of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.dialects.openai.request import ChatFields, EmbeddingFields
from tests.journeys.launcher import KEY, Launcher

SEED = "20261120"
CONFIG = """
[upstreams.s]
dialect = "scripted"
[models.scripted]
lanes = ["s/scripted"]
"""


@pytest.mark.timeout(150)
def test_the_contract_holds_against_a_fuzzer(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up(CONFIG)
    document = running.ask("/v1/openapi.json", key=None).json()
    schemas = document["components"]["schemas"]
    for fields in ("ChatFields", "EmbeddingFields"):  # so that calls reach a model
        schemas[fields]["properties"]["model"] = {"const": "scripted"}
    contract = tmp_path / "openapi.json"
    contract.write_text(json.dumps(document))
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            str(contract),
            "--url",
            running.url,
            "--header",
            f"Authorization: Bearer {KEY}",
            "--exclude-checks",
            "positive_data_acceptance",  # a provider may refuse what we pass on; that answer is documented too
            "--max-examples",
            "60",
            "--seed",
            SEED,
            "--no-color",
            "--output-sanitize",
            "false",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert "Tested: 4" in found.stdout
    assert running.when(lambda: b"\nholdfast_running_calls 0\n" in running.ask("/metrics").body)
    calls: list[dict[str, Any]] = running.ask("/api/calls?limit=100").json()["calls"]
    assert {"complete"} <= {call["status"] for call in calls}


def test_the_contract_is_what_the_code_reads(launch_up: Launcher) -> None:
    """Every field a body is read for is described, with the bounds it is read with; nothing is asked of other fields."""
    running = launch_up()
    answer = running.ask("/v1/openapi.json", key=None)
    assert answer.headers["content-type"] == "application/json"
    schemas = answer.json()["components"]["schemas"]
    for struct in (ChatFields, EmbeddingFields):
        schema = schemas[struct.__name__]
        assert set(schema["properties"]) == set(struct.__struct_fields__)
        assert "additionalProperties" not in schema
        for name, described in msgspec.json.schema(struct)["$defs"][struct.__name__]["properties"].items():
            assert name in ("messages", "input") or schema["properties"][name] == described
    assert running.ask("/v1/openapi.json", b"{}", method="POST").status == 405
