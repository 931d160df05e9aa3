"""Traces, as a collector receives them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from holdfast.features.gateway.model import STAGES
from tests.journeys.launcher import Launcher, Running

MODELS = '[upstreams.s]\ndialect = "scripted"\n[models.chat]\nlanes = ["s/scripted"]\n[models.bad]\nlanes = ["s/scripted?fault=500"]\n'
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Collector:
    """Speaks as much OTLP over HTTP as an exporter asks for."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for found in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append(
                        {each.key: each.value.string_value for each in found.resource.attributes}
                    )
                    for scope in found.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def traced(running: Running, model: str, parent: str | None = None) -> int:
    headers = {"traceparent": parent} if parent is not None else {}
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return running.ask("/v1/chat/completions", body, **headers).status


def test_a_call_is_one_span_with_one_below_it_for_each_stage(launch_up: Launcher, collector: Collector) -> None:
    running = launch_up(MODELS + f'[traces]\notlp_endpoint = "{collector.url}"\n')
    assert traced(running, "chat", PARENT) == 200
    assert running.stop() == 0  # which sends what waits
    (root,) = [span for span in collector.spans if span.name == "chat chat"]
    assert root.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    said = attributes(root)
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == "chat"
    assert said["gen_ai.response.model"]
    assert said["gen_ai.usage.output_tokens"] == 32
    assert said["http.response.status_code"] == 200
    assert said["holdfast.lane"] == "s/scripted"
    below = [span for span in collector.spans if span.parent_span_id == root.span_id]
    assert [span.name for span in below] == list(STAGES)
    assert all(span.trace_id == root.trace_id for span in below)
    edges = [root.start_time_unix_nano, *[span.end_time_unix_nano for span in below]]
    assert edges == sorted(edges)
    assert [span.start_time_unix_nano for span in below] == edges[:-1]
    assert root.end_time_unix_nano == edges[-1]
    assert collector.resources[0]["service.name"] == "holdfast"
    assert "Hello" not in str(collector.spans)


def test_a_failed_call_is_an_error_that_names_its_code(launch_up: Launcher, collector: Collector) -> None:
    running = launch_up(MODELS + f'[traces]\notlp_endpoint = "{collector.url}"\n')
    assert traced(running, "bad") == 500
    assert running.stop() == 0
    (root,) = [span for span in collector.spans if span.name == "chat bad"]
    assert root.status.code == root.status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == "upstream_status"


def test_a_client_that_traces_nothing_is_obeyed_and_a_share_of_0_traces_nobody_else(
    launch_up: Launcher, collector: Collector
) -> None:
    running = launch_up(MODELS + f'[traces]\notlp_endpoint = "{collector.url}"\nsample = 0\n')
    assert traced(running, "chat") == 200
    assert traced(running, "chat", UNSAMPLED) == 200
    assert traced(running, "chat", "garbage") == 200
    assert traced(running, "chat", PARENT) == 200
    assert running.stop() == 0
    roots = [span for span in collector.spans if span.name == "chat chat"]
    assert [root.trace_id.hex() for root in roots] == ["0af7651916cd43dd8448eb211c80319c"]


def test_a_collector_that_is_away_harms_no_call_and_no_stop(launch_up: Launcher) -> None:
    running = launch_up(MODELS + '[traces]\notlp_endpoint = "http://127.0.0.1:9/v1/traces"\n')
    for _ in range(5):
        assert traced(running, "chat") == 200
    assert running.stop() == 0
