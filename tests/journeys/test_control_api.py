"""The control API as its users meet it: over a socket, on the embedded engine."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from holdfast.features.tenancy.settings import KeySettings, OrganisationSettings, TeamSettings
from holdfast.kernel.secret import Secret
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallClosed, CallOpened
from tests.journeys.control import BOOTSTRAP, Control, Declared, control

DECLARED = Declared(
    {"filed": OrganisationSettings(concurrent=9, teams={"one": TeamSettings()})},
    {"filed-key": KeySettings(secret=Secret("secret-of-the-filed-key"), team="filed/one", role="viewer")},
    {
        "organisations.filed": "holdfast.toml:4",
        "organisations.filed.teams.one": "holdfast.toml:7",
        "keys.filed-key": "holdfast.toml:12",
    },
)

WINDOW = {"since": "2023-11-14T00:00:00Z", "until": "2023-11-15T00:00:00Z"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with control(tmp_path_factory.mktemp("control") / "data", DECLARED) as running:
        yield running


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    """The answer is that error, in the one shape errors have."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    said: dict[str, object] = answer.json()
    assert (said["status"], said["code"]) == (status, code)
    assert said["type"] == f"urn:holdfast:error:{code}"
    assert said["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    return said


def test_a_key_lives_from_its_making_to_its_end(api: Control) -> None:
    limits = {
        "requests_per_minute": 60,
        "budgets": [{"limit_usd": "12.50", "period": "week", "time_zone": "Europe/Berlin"}],
    }
    made = api.client.post(
        "/api/keys", json={"name": "life", "role": "viewer", "models": ["m"], "tags": ["a b"], "limits": limits}
    )
    assert made.status_code == 201
    key = made.json()
    assert made.headers["etag"] == f'"{key["version"]}"'
    holder = api.as_key(key["secret"])
    assert holder.get("/api/whoami").json()["key_id"] == key["id"]
    read = api.client.get(f"/api/keys/{key['id']}").json()
    assert read == {name: value for name, value in key.items() if name != "secret"}
    assert read["limits"]["budgets"] == [
        {"limit_usd": "12.50", "period": "week", "time_zone": "Europe/Berlin", "soft": 0.8}
    ]

    changed = api.client.patch(
        f"/api/keys/{key['id']}", json={"name": "life-2", "expires_at": "2100-01-01T00:00:00+01:00"}
    )
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["expires_at"]) == ("life-2", "2099-12-31T23:00:00.000Z")
    assert changed.json()["models"] == ["m"]
    assert api.client.patch(f"/api/keys/{key['id']}", json={"expires_at": None}).json()["expires_at"] is None

    rotated = api.client.post(f"/api/keys/{key['id']}/rotate", json={"overlap_seconds": 60}).json()
    assert rotated["old_secret_until"] is not None
    assert (
        api.as_key(rotated["secret"]).get("/api/whoami").json()["key_id"] == holder.get("/api/whoami").json()["key_id"]
    )

    gone = api.client.delete(f"/api/keys/{key['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert "revoked" in str(problem(holder.get("/api/whoami"), 401, "invalid_api_key")["detail"])
    problem(api.client.get(f"/api/keys/{key['id']}"), 404, "not_found")
    assert api.client.get(f"/api/keys/{key['id']}", params={"revoked": "true"}).json()["revoked_at"] is not None
    actions = [
        row["action"] for row in api.client.get("/api/audit", params={"subject": f"key:{key['id']}"}).json()["audit"]
    ]
    assert actions == ["key.revoke", "key.rotate", "key.update", "key.update", "key.create"]


def test_keys_outlive_the_process_and_no_secret_is_on_the_disk(tmp_path: Path) -> None:
    with control(tmp_path / "data") as first:
        secret = first.client.post("/api/keys", json={"name": "ci", "role": "viewer"}).json()["secret"]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert secret.encode() not in stored
    assert BOOTSTRAP.encode() not in stored
    with control(tmp_path / "data") as second:
        assert second.as_key(secret).get("/api/whoami").json()["key_name"] == "ci"


def test_every_request_needs_a_key_but_the_contract(api: Control) -> None:
    for secret in (None, "hf-wrong"):
        refused = api.as_key(secret).get("/api/keys")
        problem(refused, 401, "invalid_api_key")
        assert refused.headers["www-authenticate"].startswith("Bearer ")
    problem(httpx2.get(f"{api.url}/api/keys", headers={"authorization": f"Basic {BOOTSTRAP}"}), 401, "invalid_api_key")
    assert api.as_key(None).get("/api/openapi.json").json()["openapi"].startswith("3.1")


def test_a_request_id_is_kept_and_a_bad_one_is_replaced(api: Control) -> None:
    assert api.client.get("/api/whoami", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert api.client.get("/api/whoami", headers={"x-request-id": "a b"}).headers["x-request-id"].startswith("req_")


def test_if_match_guards_a_change(api: Control) -> None:
    made = api.client.post("/api/organisations", json={"name": "guarded"})
    url = "/api/organisations/guarded"
    first = api.client.patch(url, json={"limits": {"concurrent": 1}}, headers={"if-match": made.headers["etag"]})
    assert first.status_code == 200
    problem(api.client.patch(url, json={"limits": {}}, headers={"if-match": made.headers["etag"]}), 409, "conflict")
    problem(api.client.delete(url, headers={"if-match": made.headers["etag"]}), 409, "conflict")
    problem(api.client.delete(url, headers={"if-match": "first"}), 400, "invalid_request")
    assert api.client.delete(url, headers={"if-match": first.headers["etag"]}).status_code == 204


def test_organisations_and_teams_are_made_limited_and_deleted(api: Control) -> None:
    assert api.client.post("/api/organisations", json={"name": "acme", "limits": {"concurrent": 5}}).status_code == 201
    assert api.client.post("/api/organisations/acme/teams", json={"name": "search"}).status_code == 201
    problem(api.client.post("/api/organisations/acme/teams", json={"name": "search"}), 409, "conflict")
    url = "/api/organisations/acme/teams/search"
    assert api.client.patch(url, json={"limits": {"tokens_per_minute": 7}}).json()["limits"]["tokens_per_minute"] == 7
    assert [team["name"] for team in api.client.get("/api/organisations/acme/teams").json()["teams"]] == ["search"]
    holder = api.make_key("worker", organisation="acme", team="search")
    assert "worker" in str(problem(api.client.delete(url), 409, "conflict")["detail"])
    api.client.delete(f"/api/keys/{holder.get('/api/whoami').json()['key_id']}")
    assert api.client.delete(url).status_code == 204
    assert api.client.delete("/api/organisations/acme").status_code == 204
    problem(api.client.get("/api/organisations/acme"), 404, "not_found")


def test_what_the_file_declares_is_shown_and_not_changed(api: Control) -> None:
    filed = api.as_key("secret-of-the-filed-key").get("/api/whoami").json()
    shown = api.client.get(f"/api/keys/{filed['key_id']}").json()
    assert (shown["source"], shown["origin"]) == ("file", "holdfast.toml:12")
    for refused, place in (
        (api.client.delete(f"/api/keys/{filed['key_id']}"), "holdfast.toml:12"),
        (api.client.post(f"/api/keys/{filed['key_id']}/rotate", json={}), "holdfast.toml:12"),
        (api.client.patch("/api/organisations/filed", json={"limits": {}}), "holdfast.toml:4"),
        (api.client.delete("/api/organisations/filed/teams/one"), "holdfast.toml:7"),
    ):
        assert place in str(problem(refused, 409, "declared_in_file")["detail"])


def test_the_last_administrator_stays(api: Control) -> None:
    own = api.client.get("/api/whoami").json()["key_id"]
    for refused in (
        api.client.delete(f"/api/keys/{own}"),
        api.client.patch(f"/api/keys/{own}", json={"role": "viewer"}),
    ):
        assert "last administrator" in str(problem(refused, 409, "conflict")["detail"])


def test_a_foreign_object_is_not_found_and_a_lesser_role_is_refused(api: Control) -> None:
    for name in ("ours", "theirs"):
        api.client.post("/api/organisations", json={"name": name})
        api.client.post(f"/api/organisations/{name}/teams", json={"name": "t"})
    ours = api.make_key("our-admin", organisation="ours", team="t", role="admin")
    theirs = api.make_key("their-key", organisation="theirs", team="t").get("/api/whoami").json()["key_id"]
    for request in (
        ours.get(f"/api/keys/{theirs}"),
        ours.delete(f"/api/keys/{theirs}"),
        ours.get("/api/organisations/theirs"),
        ours.get("/api/organisations/theirs/teams/t"),
        ours.patch("/api/organisations/theirs", json={"limits": {}}),
        ours.post("/api/keys", json={"name": "x", "organisation": "theirs", "team": "t"}),
        ours.get("/api/usage", params={"organisation": "theirs"}),
        ours.get("/api/keys", params={"organisation": "default"}),
        ours.get("/api/audit", params={"subject": f"key:{theirs}"}),
    ):
        problem(request, 404, "not_found")
    for request in (
        ours.get("/api/settings"),
        ours.post("/api/organisations", json={"name": "x"}),
        ours.get("/api/audit"),
    ):
        problem(request, 403, "permission_denied")
    viewer = api.make_key("our-viewer", organisation="ours", team="t", role="viewer")
    for request in (
        viewer.get("/api/calls"),
        viewer.get("/api/findings"),
        viewer.post("/api/keys", json={"name": "x"}),
    ):
        problem(request, 403, "permission_denied")
    assert viewer.get("/api/usage").status_code == 200


@pytest.fixture(scope="module")
def calls(api: Control) -> None:
    """Rows as the gateway leaves them."""
    for number in range(5):
        opened = CallOpened(
            id=f"call_{number:032x}",
            request_id=f"req_{number}",
            organisation="filed",
            team="one",
            key_id="key_" + "a" * 32,
            end_user=None,
            operation="chat.completions",
            route="mock",
            model="mock" if number else "free",
            lane="up/mock",
            node="node",
            opened_at=1_700_000_000.25 + number,
            stream=False,
            reserved_nanodollars=0,
            estimated_input_tokens=10,
            estimated_output_tokens=20,
        )
        closed = CallClosed(
            id=opened.id,
            closed_at=opened.opened_at + 1,
            status="complete",
            http_status=200,
            lane="up/mock",
            usage=Usage(input_tokens=10, output_tokens=5),
            cost_nanodollars=None if number == 4 else 1_500_000_000 * number,
            attempts=2 if number == 1 else 1,
            opened=opened,
        )
        api.commit(closed)
    api.commit(
        Attempted(
            call_id=f"call_{1:032x}",
            number=2,
            kind="failover",
            lane="other/mock",
            sent_at=1_700_000_001.5,
            ended_at=1_700_000_002.0,
            status="complete",
            http_status=200,
            error_code=None,
            usage=Usage(input_tokens=10, output_tokens=5),
            cost_nanodollars=250_000_000,
        )
    )


@pytest.mark.usefixtures("calls")
class TestCalls:
    def test_are_read_one_by_one_and_by_page(self, api: Control) -> None:
        one = api.client.get(f"/api/calls/call_{1:032x}").json()
        assert (one["cost_nanodollars"], one["cost_usd"]) == (1_750_000_000, "1.75")
        assert [attempt["lane"] for attempt in one["further"]] == ["other/mock"]
        assert api.client.get(f"/api/calls/call_{4:032x}").json()["cost_usd"] is None
        problem(api.client.get(f"/api/calls/call_{9:032x}"), 404, "not_found")
        seen: list[str] = []
        before: str | None = None
        while True:
            query = {**WINDOW, "limit": "2", **({} if before is None else {"before": before})}
            page = api.client.get("/api/calls", params=query).json()
            seen += [call["id"] for call in page["calls"]]
            before = page["next"]
            if before is None:
                break
        assert seen == [f"call_{number:032x}" for number in (4, 3, 2, 1, 0)]

    def test_are_summed(self, api: Control) -> None:
        usage = api.client.get("/api/usage", params={**WINDOW, "by": ["model", "day"]}).json()
        rows = {(row["group"]["model"], row["group"]["day"]): row for row in usage["rows"]}
        assert set(rows) == {("mock", "2023-11-14"), ("free", "2023-11-14")}
        mock = rows["mock", "2023-11-14"]
        assert (mock["calls"], mock["cost_usd"], mock["unpriced_calls"]) == (4, "9.25", 1)
        assert rows["free", "2023-11-14"]["cost_usd"] == "0.00"
        assert usage["total"]["calls"] == 5
        unpriced = api.client.get(
            "/api/usage", params={"since": "2023-11-14T22:13:24Z", "until": "2023-11-14T22:13:25Z"}
        ).json()
        assert (unpriced["total"]["calls"], unpriced["total"]["cost_usd"], unpriced["total"]["unpriced_calls"]) == (
            1,
            None,
            1,
        )

    def test_are_those_of_the_own_team(self, api: Control) -> None:
        api.client.post("/api/organisations", json={"name": "blind"})
        api.client.post("/api/organisations/blind/teams", json={"name": "t"})
        operator = api.make_key("blind-operator", organisation="blind", team="t", role="operator")
        assert operator.get("/api/calls", params=WINDOW).json()["calls"] == []
        assert operator.get("/api/usage", params=WINDOW).json()["total"]["calls"] == 0
        problem(operator.get(f"/api/calls/call_{1:032x}"), 404, "not_found")


def test_budgets_show_what_is_left(api: Control) -> None:
    budgets = [{"limit_usd": "100"}, {"limit_usd": "9", "period": "day"}]
    api.client.post("/api/organisations", json={"name": "rich", "limits": {"budgets": budgets}})
    (month, day) = api.client.get("/api/budgets", params={"organisation": "rich"}).json()["budgets"]
    assert (month["scope"], month["limit_usd"], month["remaining_usd"]) == ("org:rich", "100.00", "100.00")
    assert month["period"].startswith("month:")
    assert day["period"].startswith("day:")


def test_settings_and_findings_are_shown(api: Control) -> None:
    shown = api.client.get("/api/settings").json()
    assert shown["settings"]["upstreams"]["mock"]["key"] == "***"
    assert shown["origins"] == {"upstreams.mock.key": "holdfast.toml:2"}
    api.findings.open("lane_down", "openai/gpt-5", what="It answers 500.", todo="Ask the provider.")
    (finding,) = api.client.get("/api/findings").json()["findings"]
    api.findings.clear("lane_down", "openai/gpt-5")
    assert (finding["code"], finding["todo"]) == ("lane_down", "Ask the provider.")


def test_latency_is_percentiles_for_viewers_of_the_instance(api: Control) -> None:
    assert api.client.get("/api/latency").json() == {"stages": [], "first_token": [], "total": []}
    measures, names = api.measures, ("chat.completions", "m")
    measures.stages.of(("check", "m"))
    for _ in range(100):
        measures.stages.of(("admit", "m")).observe(0.0004)
        measures.first_token.of(names).observe(0.4)
        measures.total.of(names).observe(20.0)
    viewer = api.make_key("latency-viewer", role="viewer")
    said = viewer.get("/api/latency").json()
    called = {"operation": "chat.completions", "model": "m", "count": 100}
    assert said == {
        "stages": [
            {"stage": "admit", "model": "m", "count": 100}
            | {"p50_seconds": 0.000375, "p95_seconds": 0.0004875, "p99_seconds": 0.0004975}
        ],
        "first_token": [called | {"p50_seconds": 0.375, "p95_seconds": 0.4875, "p99_seconds": 0.4975}],
        "total": [called | {"p50_seconds": 20.0, "p95_seconds": 29.0, "p99_seconds": 29.8}],
    }
    api.client.post("/api/organisations", json={"name": "slow"})
    api.client.post("/api/organisations/slow/teams", json={"name": "t"})
    foreign = api.make_key("foreign-viewer", organisation="slow", team="t", role="viewer")
    problem(foreign.get("/api/latency"), 403, "permission_denied")
    problem(api.make_key("no-role").get("/api/latency"), 403, "permission_denied")
    paths = api.client.get("/api/openapi.json").json()["paths"]
    assert paths["/api/latency"]["get"]["operationId"] == "readLatency"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 50_000,
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a\\u0000b"}',
        b'{"name": 5}',
        b'{"name": "a", "unknown": 1}',
        b'{"name": "a", "may_call": "yes"}',
        b'{"name": "a", "role": "owner"}',
        b'{"name": "a", "expires_at": 1}',
        b'{"name": "a", "expires_at": "tomorrow"}',
        b'{"name": "a", "limits": {"concurrent": 1e400}}',
        b'{"name": "a", "limits": {"concurrent": NaN}}',
        b'{"name": "a", "limits": {"concurrent": 1.5}}',
        b'{"name": "a", "limits": {"concurrent": ' + b"9" * 5_000 + b"}}",
        b'{"name": "a", "limits": {"concurrent": 9223372036854775808}}',
        b'{"name": "a", "limits": {"budgets": [{"limit_usd": "-1"}]}}',
        b'{"name": "a", "limits": {"budgets": [{"limit_usd": "1", "time_zone": "../etc/passwd"}]}}',
        b'{"name": "a", "limits": {"budgets": [{"limit_usd": "1", "time_zone": "Mars"}]}}',
        b'{"name": "a", "limits": {"budgets": [{"limit_usd": "1", "soft": Infinity}]}}',
        b'{"name": "a", "tags": ["' + b"t" * 65 + b'"]}',
        b'{"name": "a", "models": [' + b",".join([b'"m"'] * 201) + b"]}",
        json.dumps({"name": "x" * 65}).encode(),
        json.dumps({"name": ".."}).encode(),
    ],
)
def test_a_body_that_is_wrong_is_refused_by_name(api: Control, body: bytes) -> None:
    refused = api.client.post("/api/keys", content=body, headers={"content-type": "application/json"})
    problem(refused, 400, "invalid_request")


def test_a_body_of_another_type_or_size_is_refused(api: Control) -> None:
    problem(
        api.client.post("/api/keys", content=b'{"name": "a"}', headers={"content-type": "text/plain"}),
        400,
        "invalid_request",
    )
    problem(api.client.post("/api/keys", content=b" " * 300_000), 413, "body_too_large")

    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    problem(
        api.client.post("/api/keys", content=endless(), headers={"content-type": "application/json"}),
        413,
        "body_too_large",
    )


@pytest.mark.parametrize(
    "query",
    [
        "x=1",
        "limit=0",
        "limit=1001",
        "limit=a",
        "limit=",
        "after=nobody",
        "revoked=1",
        "name=%00",
        "name=%ff",
        "organisation=a/b",
        "limit=" + "9" * 5000,
    ],
)
def test_a_query_that_is_wrong_is_refused_by_name(api: Control, query: str) -> None:
    problem(api.client.get(f"/api/keys?{query}"), 400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "/api/whoami",
        "/api/settings",
        "/api/findings",
        "/api/latency",
        "/api/organisations/default",
        "/api/organisations/default/teams/default",
    ],
)
def test_a_query_where_none_is_taken_is_refused(api: Control, path: str) -> None:
    assert problem(api.client.get(f"{path}?verbose=1"), 400, "invalid_request")["param"] == "verbose"


def test_a_window_that_is_wrong_is_refused_and_an_empty_one_is_empty(api: Control) -> None:
    for query in (
        "since=yesterday",
        "until=2026-11-20",
        "by=colour",
        "by=day&by=day&by=day&by=day&by=day",
        "status=fine",
        "key_id=k",
    ):
        problem(api.client.get(f"/api/usage?{query}"), 400, "invalid_request")
    backwards = {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    assert api.client.get("/api/usage", params=backwards).json()["rows"] == []
    assert api.client.get("/api/calls", params=backwards).json()["calls"] == []


def test_unknown_paths_and_methods_are_said(api: Control) -> None:
    problem(api.client.get("/api/nothing"), 404, "not_found")
    problem(api.client.get("/api/keys/"), 404, "not_found")
    for method, path, allowed in (
        ("PUT", "/api/keys", "GET, POST"),
        ("POST", "/api/keys/key_" + "0" * 32, "DELETE, GET, PATCH"),
        ("OPTIONS", "/api/usage", "GET"),
        ("DELETE", "/api/usage", "GET"),
    ):
        refused = api.client.request(method, path)
        problem(refused, 405, "method_not_allowed")
        assert refused.headers["allow"] == allowed


def test_the_contract_says_every_error_and_only_those(api: Control) -> None:
    document = api.client.get("/api/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            said = set(operation["responses"])
            assert {"400", "401", "403", "404", "405", "409", "413", "429", "503"} <= said, (method, path)
            assert "422" not in said
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
    assert document["security"] == [{"key": []}]
    references = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in references, name
