"""The holdfast.toml a measured gateway runs on, with everything on: limits on organisation, team and key that are enforced and
never reached, budgets in expected mode, prices, call rows, metrics."""

from collections.abc import Mapping

ADMIN_VARIABLE = "HOLDFAST_BOOTSTRAP_KEY"
KEY_VARIABLE = "BENCH_KEY"
POSTGRES_VARIABLE = "BENCH_POSTGRES"
REDIS_VARIABLE = "BENCH_REDIS"
STORE = f"""
[store]
postgres = "env:{POSTGRES_VARIABLE}"
redis = "env:{REDIS_VARIABLE}"
"""
UPSTREAM = """
[upstreams.{name}]
dialect = "openai"
base_url = "{url}"
key = "none"
max_connections = 10000
max_idle_connections = 10000

[models.{name}]
lanes = ["{name}/mock"]

[prices."{name}/mock"]
input_usd = "0.15"
output_usd = "0.60"
cached_read_usd = "0.075"
"""
LIMITS = """requests_per_minute = 100000000
input_tokens_per_minute = 100000000000
output_tokens_per_minute = 100000000000
tokens_per_minute = 100000000000
concurrent = 1000000
"""
BUDGETS = """budgets = [{ limit_usd = "1000000", period = "month" }]
"""
TENANTS = f"""
[defaults]
budget_mode = "expected"

[organisations.bench]
{LIMITS}
[organisations.bench.teams.load]
{LIMITS}{BUDGETS}
[keys.bench]
secret = "env:{KEY_VARIABLE}"
team = "bench/load"
{LIMITS}{BUDGETS}"""


def configuration(upstreams: Mapping[str, str], *, servers: bool) -> str:
    """Each upstream, by base URL, is a model of its own name; `servers` puts state on PostgreSQL and Redis."""
    accounts = "".join(UPSTREAM.format(name=name, url=url) for name, url in upstreams.items())
    return accounts + TENANTS + (STORE if servers else "")
