"""Whatever people write, loading it either works or says what is wrong, line by line; it never breaks, and never tells a secret."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from holdfast.kernel.errors import SettingsError
from holdfast.settings import load, shown

SECRET = "tell-nobody-0123456789"
HEADERS = str.split("""
[server] [store] [logs] [defaults] [traces] [tenancy] [upstreams.a] [upstreams.b] [models.a] [models.'x/y'] [routes.a] [keys.a]
[keys.b] [[keys.a.budgets]] [organisations.a] [prices.a] [organisations.a.teams.b] [[organisations.a.budgets]] [server.port]
[keys] [[upstreams]] [a.b.c]
""")
NAMES = str.split("""
host port tls_key data postgres level budget_mode sample dialect base_url key headers proxy lanes concurrent model secret
sha256 team role models expires_at budgets free limit_usd period time_zone soft input_usd output_usd long_input_usd teams
nonsense 'a.b'
""")
VALUES = str.split("""
1 -1 0 1e400 nan true "" "x" "a/b" "openai" "scripted" "http://x" "http://[" [] ['a/b',3] ['a/b','a/b'] {} {a=1} {a='b'} [{}]
[{limit_usd=1}] 1979-05-27 'env:X' 1979-05-27T00:00:00Z 'file:none' 'env:SECRET' 'none' '10.0.0.1' 'Europe/Berlin' 'Europe'
'month' 1180591620717411303424 'é' '\\' "\\u0000" [[1]] 'default/default' 'tell-nobody-0123456789'
""")
VARIABLES = str.split("""
SERVER__PORT KEYS__A__SECRET UPSTREAMS__A__HEADERS__X MODELS__A__LANES KEYS__A SERVER X__Y __ STORE__POSTGRES KEYS__A__BUDGETS
ORGANISATIONS__A__TEAMS__B__CONCURRENT PRICES__A__INPUT_USD
""")
TEXTS = ["1", "", "x", "a/b,a/c", "env:SECRET", SECRET, "none", "\x00", "[]"]

some_table = st.tuples(
    st.sampled_from(["", *HEADERS]),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=4),
)
some_tables = st.lists(some_table, max_size=5)
some_variables = st.dictionaries(
    st.sampled_from(VARIABLES).map("HOLDFAST_{}".format), st.sampled_from(TEXTS), max_size=3
)


@given(some_tables, some_variables)
def test_anything_is_read_or_refused_with_a_place(
    tables: list[tuple[str, dict[str, str]]], environ: dict[str, str]
) -> None:
    text = "\n".join(
        header + "\n" + "\n".join(f"{key} = {value}" for key, value in said.items()) for header, said in tables
    )
    with TemporaryDirectory() as folder:
        file = Path(folder) / "h.toml"
        file.write_text(text, "utf-8")
        try:
            loaded = load(file, {**environ, "SECRET": SECRET}, {})
        except SettingsError as error:
            for line in error.message.splitlines():
                assert re.match(rf"({re.escape(str(file))}:\d+|environment \w+): \S", line), line
        else:
            assert SECRET not in repr(loaded)
            assert loaded.settings.logs.level in shown(loaded.settings)["logs"]["level"]
