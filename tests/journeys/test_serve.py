"""`holdfast serve`: several processes over one PostgreSQL and one Redis, as operators run them."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.journeys.launcher import Launcher, Running, clean_environment, holdfast
from tests.journeys.streams import Stream
from tests.servers import postgres_programs, postgres_to_hurt, postgres_url, redis_to_hurt, redis_url

pytestmark = [pytest.mark.engines, pytest.mark.xdist_group("serve")]

CONFIG = """
[store]
postgres = "env:DATABASE_URL"
redis = "env:REDIS_URL"
[server]
drain_notice_seconds = 1
[upstreams.s]
dialect = "scripted"
[models.scripted]
lanes = ["s/scripted"]
[models.slow]
lanes = ["s/scripted?itl_ms=20&tokens=80"]
"""


def nodes(launch: Launcher, count: int, postgres: str, redis: str) -> list[Running]:
    stores = {"DATABASE_URL": postgres, "REDIS_URL": redis}
    return [launch(CONFIG, stores, verb="serve") for _ in range(count)]


def reasons(running: Running) -> list[str]:
    return [reason["code"] for reason in running.ask("/readyz", key=None).json()["reasons"]]


def test_two_nodes_share_keys_and_calls_and_one_leaves_without_a_loss(launch_up: Launcher) -> None:
    first, second = nodes(launch_up, 2, postgres_url(), redis_url())
    made = first.ask("/api/keys", {"name": "app"}).json()
    assert second.when(lambda: second.ask("/v1/models", key=made["secret"]).status == 200, seconds=5)
    assert second.ask(f"/api/keys/{made['id']}", method="DELETE").status == 204
    assert first.when(lambda: first.ask("/v1/models", key=made["secret"]).status == 401, seconds=5)
    stream = Stream(first, "slow")
    first.process.send_signal(signal.SIGTERM)
    assert first.when(lambda: first.ask("/readyz", key=None).status == 503)
    assert second.ask("/readyz", key=None).status == 200
    stream.join()
    assert stream.is_whole()
    assert first.process.wait(20) == 0
    calls = second.ask("/api/calls?model=slow").json()["calls"]
    assert [call["status"] for call in calls] == ["complete"]


def test_a_node_says_which_store_is_away_and_comes_back_by_itself(launch_up: Launcher) -> None:
    with postgres_to_hurt() as postgres, redis_to_hurt() as redis:
        (node,) = nodes(launch_up, 1, postgres.fresh_url(), redis.url())
        assert node.ask("/readyz", key=None).status == 200
        redis.stop()
        assert node.when(lambda: "rates_unavailable" in reasons(node))
        redis.start()
        assert node.when(lambda: reasons(node) == [])
        postgres.stop()
        assert node.when(lambda: "store_unavailable" in reasons(node))
        assert node.ask("/healthz", key=None).status == 200
        assert node.ask("/metrics", key=None).status == 200
        postgres.start()
        assert node.when(lambda: reasons(node) == [], seconds=20)
        assert node.chat().status == 200
        said = {line["finding"]: line["open"] for line in node.lines() if "finding" in line}
        assert said["store_unavailable"] is False
        assert said["rates_unavailable"] is False


def test_a_store_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(CONFIG)
    env = clean_environment(DATABASE_URL="postgresql://holdfast:hidden@127.0.0.1:9/none", REDIS_URL=redis_url())
    found = holdfast("serve", "--port", "0", cwd=tmp_path, env=env, timeout=60)
    assert found.returncode == 1, found.stderr
    assert "hidden" not in found.stderr
    assert "Traceback" not in found.stderr


def test_the_backup_page_brings_a_database_back_as_another_history(launch_up: Launcher, tmp_path: Path) -> None:
    source, target = postgres_url(), postgres_url()
    programs = postgres_programs(False)
    (node,) = nodes(launch_up, 1, source, redis_url())
    call = node.chat().headers["holdfast-call"]
    assert node.when(lambda: node.ask(f"/api/calls/{call}").status == 200)

    def program(name: str, *arguments: str) -> str:
        found = subprocess.run(
            [programs / name, *arguments], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        return found.stdout

    page = (Path(__file__).parents[2] / "docs/backup.md").read_text("utf-8")
    update = page.partition('--command "')[2].partition('"\n')[0]
    assert update.startswith("UPDATE holdfast.store SET incarnation")
    program("pg_dump", "--format", "custom", "--schema", "holdfast", "--file", "holdfast.dump", source)
    program("pg_restore", "--clean", "--if-exists", "--dbname", target, "holdfast.dump")
    program("psql", target, "--command", update)
    select = "SELECT incarnation FROM holdfast.store"
    assert program("psql", source, "-Atc", select) != program("psql", target, "-Atc", select)
    (restored,) = nodes(launch_up, 1, target, redis_url())
    assert restored.ask(f"/api/calls/{call}").status == 200


def test_money_of_a_database_is_recomputed_beside_a_running_node(launch_up: Launcher, tmp_path: Path) -> None:
    budgeted = CONFIG + (
        '[prices.scripted]\ninput_usd = "1"\noutput_usd = "1"\n[organisations.default]\nbudgets = [{ limit_usd = "9" }]\n'
    )
    stores = {"DATABASE_URL": postgres_url(), "REDIS_URL": redis_url()}
    node = launch_up(budgeted, stores, verb="serve")
    for _ in range(3):
        assert node.chat().status == 200
    found = holdfast("check", "--money", "--config", str(node.config), cwd=tmp_path, env=clean_environment(**stores))
    assert (found.returncode, found.stdout) == (0, "Every budget agrees with the calls.\n"), found.stderr


def test_check_reaches_the_stores_and_names_the_one_that_failed(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(CONFIG)
    postgres, redis = postgres_url(), redis_url()
    nobody = "postgresql://holdfast:hidden@127.0.0.1:9/none"
    for database, limits, failed in (
        (postgres, redis, []),
        (nobody, redis, ["store.postgres"]),
        (postgres.replace("postgres:", "nobody:"), redis, ["store.postgres"]),
        (postgres, "redis://:hidden@127.0.0.1:9/0", ["store.redis"]),
        (nobody, redis.replace("://:", "://:wrong-"), ["store.postgres", "store.redis"]),
    ):
        env = clean_environment(DATABASE_URL=database, REDIS_URL=limits)
        found = holdfast("check", cwd=tmp_path, env=env, timeout=60)
        assert found.returncode == (1 if failed else 0), found.stderr
        lines = [line for line in found.stdout.splitlines() if line.startswith("store.")]
        assert [line.split()[0] for line in lines] == ["store.postgres", "store.redis"]
        assert [line.split()[0] for line in lines if "FAILED: " in line and "127.0.0.1" in line] == failed
        assert not any(secret in found.stdout + found.stderr for secret in ("hidden", "s3cret", "Traceback"))
    away = clean_environment(DATABASE_URL=nobody, REDIS_URL=redis.replace("://:", "://:wrong-"))
    said = json.loads(holdfast("check", "--json", cwd=tmp_path, env=away, timeout=60).stdout)
    assert [store["failure"] is None for store in said["stores"]] == [False, False]
