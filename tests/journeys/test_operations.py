"""What operators ask a running process: health, readiness, metrics, findings; and who may ask where others can reach it."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.journeys.launcher import Launcher, Running, holdfast, launching
from tests.servers import free_port

pytestmark = pytest.mark.xdist_group("operations")

GUARDED = '[upstreams.o]\ndialect = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n[models.m]\nlanes = ["o/m"]\n'


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Bound where others can reach it."""
    with launching(tmp_path_factory.mktemp("guarded")) as launcher:
        yield launcher(GUARDED, arguments=["--host", "0.0.0.0"])  # noqa: S104


def local(running: Running) -> Running:
    running.url = running.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    return running


def test_the_three_questions_have_answers_that_nobody_may_store(demo: Running) -> None:
    for path, said in (("/healthz", {"alive": True}), ("/startupz", {"started": True})):
        answer = demo.ask(path, key=None)
        assert (answer.status, answer.json()) == (200, said)
        assert answer.headers["cache-control"] == "no-store"
    ends = time.monotonic() + 10  # the first look at things is taken within a second of the start
    while not (ready := demo.ask("/readyz", key=None).json())["findings"]:
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert ready["ready"] is True
    assert ready["reasons"] == []
    assert [finding["code"] for finding in ready["findings"]] == ["scripted_serving"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/startupz", "/metrics"])
def test_methods_other_than_get_and_head_are_refused(demo: Running, path: str) -> None:
    head = demo.ask(path, method="HEAD", key=None)
    assert (head.status, head.body) == (200, b"")
    refused = demo.ask(path, b"{}", method="POST", key=None)
    assert refused.status == 405
    assert refused.headers["allow"] == "GET, HEAD"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/", "/apiary", "/metrics/x"])
def test_what_is_not_there_is_a_problem_document(demo: Running, path: str) -> None:
    answer = demo.ask(path, key=None)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_metrics_parse_and_count_what_happened(demo: Running) -> None:
    def value(name: str, **labels: str) -> float:
        text = demo.ask("/metrics", key=None).body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    calls = {"operation": "chat.completions", "model": "scripted", "status": "complete"}
    before, tokens = value("holdfast_calls_total", **calls), value("gen_ai_client_token_usage_total")
    answer = demo.chat().json()
    assert value("holdfast_calls_total", **calls) == before + 1
    assert value("gen_ai_client_token_usage_total") == tokens + answer["usage"]["total_tokens"]
    assert value("gen_ai_client_operation_duration_seconds_count", gen_ai_operation_name="chat") >= 1
    for stage in ("identify", "reuse", "admit", "attempt", "check"):
        assert value("holdfast_stage_seconds_count", stage=stage, model="scripted") >= 1
    assert demo.when(lambda: value("holdfast_loop_lag_seconds_count") > 0)
    assert value("process_resident_memory_bytes") > 10_000_000
    assert value("process_open_fds") > 5
    assert value("holdfast_ready") == 1
    assert value("holdfast_build_info") == 1


def test_metrics_are_of_the_prometheus_text_type(demo: Running) -> None:
    assert demo.ask("/metrics", key=None).headers["content-type"].startswith("text/plain; version=0.0.4")


def test_beyond_this_machine_metrics_and_detail_want_a_viewers_key(guarded: Running) -> None:
    running = local(guarded)
    assert running.ask("/metrics", key=None).status == 401
    assert running.ask("/metrics", key="hf-wrong").status == 401
    assert running.ask("/metrics").status == 200
    assert running.ask("/healthz", key=None).status == 200
    assert running.ask("/startupz", key=None).status == 200
    assert running.ask("/readyz", key=None).json() == {"ready": True}
    assert running.ask("/readyz", key="hf-wrong").status == 401
    assert "findings" in running.ask("/readyz").json()


def test_beyond_this_machine_the_key_has_to_be_the_instances_and_a_viewers(guarded: Running) -> None:
    running = local(guarded)
    caller = running.ask("/api/keys", {"name": "caller"}).json()["secret"]
    viewer = running.ask("/api/keys", {"name": "viewer", "role": "viewer"}).json()["secret"]
    assert running.ask("/api/organisations", {"name": "acme"}).status == 201
    assert running.ask("/api/organisations/acme/teams", {"name": "search"}).status in (200, 201, 404)
    assert running.ask("/metrics", key=caller).status == 403
    assert running.ask("/metrics", key=viewer).status == 200


def test_the_control_api_can_stand_on_a_port_of_its_own(launch_up: Launcher) -> None:
    running = launch_up(arguments=["--set", f"server.api_port={(port := free_port())}"])
    assert running.ask("/api/whoami").status == 404
    assert running.chat().status == 200
    apart = replace(running, url=f"http://127.0.0.1:{port}")
    assert apart.ask("/api/whoami").status == 200
    found = holdfast("keys", "list", "--data", str(running.data), cwd=running.data.parent)
    assert found.returncode == 0, found.stderr


def test_a_flood_of_log_readers_and_scrapes_leaves_calls_alone(demo: Running) -> None:
    for _ in range(20):
        assert demo.ask("/metrics", key=None).status == 200
        assert demo.chat().status == 200


def test_log_lines_are_json_and_hold_no_key(launch_up: Launcher) -> None:
    running = launch_up(env={"HOLDFAST_LOGS__CALLS": "all"}, key="hf-" + "1234567890abcdef" * 4)
    answer = running.ask(
        "/v1/chat/completions",
        {"model": "scripted", "messages": [{"role": "user", "content": "Hello"}]},
        **{"x-request-id": "from-my-app-1"},
    )
    assert answer.headers["x-request-id"] == "from-my-app-1"
    assert running.when(lambda: any(line.get("request_id") == "from-my-app-1" for line in running.lines()))
    text = running.log.read_text("utf-8")
    assert "1234567890abcdef" not in text
    for line in text.splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))
