"""Which `serve` processes may run over one database: any number that count limits in one Redis, or one that counts alone."""

from pathlib import Path

import psycopg
import pytest

from tests.journeys.launcher import Launcher, Running, clean_environment, holdfast
from tests.servers import postgres_to_hurt, postgres_url, redis_url

pytestmark = [pytest.mark.engines, pytest.mark.xdist_group("serve")]

ALONE = """
[store]
postgres = "env:DATABASE_URL"
[upstreams.s]
dialect = "scripted"
[models.scripted]
lanes = ["s/scripted"]
"""
TOGETHER = ALONE.replace("[upstreams.s]", 'redis = "env:REDIS_URL"\n[upstreams.s]')
HOLDERS = """
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1213481296 AND objid = 4 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def refused(config: str, stores: dict[str, str], folder: Path) -> str:
    """What a node says that must not start."""
    (folder / "refused.toml").write_text(config)
    env = clean_environment(**stores)
    found = holdfast("serve", "--port", "0", "--config", "refused.toml", cwd=folder, env=env, timeout=60)
    assert found.returncode in (1, 2), found.stderr
    assert "Traceback" not in found.stderr
    assert "store.redis" in found.stderr
    return found.stderr


def findings(node: Running) -> dict[str, str]:
    return {each["code"]: each["severity"] for each in node.ask("/api/findings").json()["findings"]}


@pytest.fixture
def stores() -> dict[str, str]:
    return {"DATABASE_URL": postgres_url(), "REDIS_URL": redis_url()}


def test_beside_a_node_without_redis_no_other_starts(
    launch_up: Launcher, stores: dict[str, str], tmp_path: Path
) -> None:
    node = launch_up(ALONE, stores, verb="serve")
    assert "another node runs over this database" in refused(ALONE, stores, tmp_path)
    assert "a node without Redis runs over this database" in refused(TOGETHER, stores, tmp_path)
    assert node.chat().status == 200
    assert "limits_per_node" not in findings(node)
    assert node.stop() == 0
    launch_up(TOGETHER, stores, verb="serve")


def test_beside_nodes_with_redis_none_without_starts(
    launch_up: Launcher, stores: dict[str, str], tmp_path: Path
) -> None:
    nodes = [launch_up(TOGETHER, stores, verb="serve") for _ in range(2)]
    assert nodes[0].stop() == 0
    assert "another node runs over this database" in refused(ALONE, stores, tmp_path)
    assert nodes[1].chat().status == 200


def test_a_node_without_redis_starts_again_right_after_it_was_killed(
    launch_up: Launcher, stores: dict[str, str]
) -> None:
    for _ in range(2):
        launch_up(ALONE, stores, verb="serve").kill()
    assert launch_up(ALONE, stores, verb="serve").chat().status == 200


def test_other_databases_of_the_server_do_not_matter(launch_up: Launcher, stores: dict[str, str]) -> None:
    launch_up(ALONE, stores, verb="serve")
    launch_up(ALONE, {"DATABASE_URL": postgres_url()}, verb="serve")


def test_a_place_lost_to_another_is_a_finding_and_not_the_end(launch_up: Launcher, stores: dict[str, str]) -> None:
    node = launch_up(ALONE, stores, verb="serve")
    with psycopg.connect(stores["DATABASE_URL"], autocommit=True) as other:

        def taken_away() -> bool:
            other.execute(f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS}) AS holders")  # noqa: S608 (a constant)
            row = other.execute("SELECT pg_try_advisory_lock(1213481296, 4)").fetchone()
            return row == (True,)

        assert node.when(taken_away)
        assert node.when(lambda: findings(node).get("limits_per_node") == "error", seconds=20)
        assert node.chat().status == 200
    assert node.when(lambda: "limits_per_node" not in findings(node), seconds=20)


def test_the_place_is_taken_again_when_the_database_is_back(launch_up: Launcher, tmp_path: Path) -> None:
    with postgres_to_hurt() as postgres:
        stores = {"DATABASE_URL": postgres.fresh_url()}
        node = launch_up(ALONE, stores, verb="serve")
        postgres.kill()
        postgres.start()

        def held() -> bool:
            with psycopg.connect(stores["DATABASE_URL"]) as asking:
                return asking.execute(HOLDERS).fetchone() is not None

        assert node.when(held, seconds=20)
        refused(ALONE, stores, tmp_path)
        assert "limits_per_node" not in findings(node)
