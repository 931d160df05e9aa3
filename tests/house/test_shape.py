"""Code does not hide errors, keep state behind a module, or import late."""

from pathlib import Path

import pytest

from tests.house import shape
from tests.house.tree import ROOT, exceptions, plant

FILE = "src/holdfast/edge/server/http.py"


def test_excepts_are_narrow() -> None:
    assert shape.broad_excepts(ROOT, exceptions("broad_excepts")) == []


def test_nothing_is_rebound_through_global() -> None:
    assert shape.globals_rebound(ROOT) == []


def test_modules_keep_no_state() -> None:
    assert shape.mutable_state(ROOT) == []


def test_imports_stand_at_the_top() -> None:
    assert shape.late_imports(ROOT) == []


def test_no_notes_to_self() -> None:
    assert shape.notes_to_self(ROOT) == []


@pytest.mark.parametrize(
    "handler",
    [
        "try: ...\nexcept Exception: ...",
        "try: ...\nexcept BaseException as error: raise",
        "try: ...\nexcept: ...",
        "try: ...\nexcept (OSError, Exception): ...",
        "import builtins\ntry: ...\nexcept builtins.Exception: ...",
        "import contextlib\nwith contextlib.suppress(Exception): ...",
    ],
)
def test_a_broad_except_is_found(tmp_path: Path, handler: str) -> None:
    plant(tmp_path, {FILE: handler})
    [said] = shape.broad_excepts(tmp_path, {})
    assert said.startswith(f"{FILE}:")
    assert said.endswith("broad except")


def test_a_narrow_except_is_fine(tmp_path: Path) -> None:
    plant(tmp_path, {FILE: "class SomeException(Exception): ...\ntry: ...\nexcept (SomeException, OSError): ..."})
    assert shape.broad_excepts(tmp_path, {}) == []


def test_a_listed_broad_except_is_counted(tmp_path: Path) -> None:
    plant(tmp_path, {FILE: "try: ...\nexcept Exception: ..."})
    assert shape.broad_excepts(tmp_path, {FILE: 1}) == []
    assert shape.broad_excepts(tmp_path, {FILE: 2}) == [f"{FILE}: 1 broad excepts (its exception says 2)"]


@pytest.mark.parametrize(
    ("path", "most"), [("features/gateway/path.py", 0), ("edge/server/http.py", 2), ("testing/fault.py", 1)]
)
def test_the_list_of_broad_excepts_ends(tmp_path: Path, path: str, most: int) -> None:
    path = f"src/holdfast/{path}"
    folder = path.split("/")[2]
    plant(tmp_path, {path: "try: ...\nexcept Exception: ...\n" * (most + 1)})
    assert shape.broad_excepts(tmp_path, {path: most + 1}) == [
        f"{folder}: {most + 1} broad excepts listed (at most {most})"
    ]


def test_global_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {FILE: "count = 0\ndef more() -> None:\n    global count\n    count += 1\n"})
    assert shape.globals_rebound(tmp_path) == [f"{FILE}:3: global count"]


@pytest.mark.parametrize(
    "state",
    [
        "pools = {}",
        "pools: dict[str, int] = {}",
        "pools = [1]",
        "pools = set()",
        "from collections import defaultdict\npools = defaultdict[str, int](int)",
        "import collections\npools = collections.deque()",
        "pools = {name: 1 for name in 'ab'}",
        "_pools = {}",
        "POOLS = {}\ndef keep() -> None:\n    POOLS['a'] = 1",
        "POOLS = []\ndef keep() -> None:\n    POOLS.append(1)",
    ],
)
def test_state_of_a_module_is_found(tmp_path: Path, state: str) -> None:
    plant(tmp_path, {FILE: state})
    [said] = shape.mutable_state(tmp_path)
    assert said.endswith("is state of a module")


@pytest.mark.parametrize(
    "constant", ["STATUS = {'a': 1}", "__all__ = ['a']", "names = ('a', 'b')", "def f() -> None:\n    found = []\n"]
)
def test_a_constant_is_no_state(tmp_path: Path, constant: str) -> None:
    plant(tmp_path, {FILE: constant})
    assert shape.mutable_state(tmp_path) == []


def test_a_late_import_is_found(tmp_path: Path) -> None:
    late = "def f() -> None:\n    import psycopg\n"
    plant(tmp_path, {FILE: late, "src/holdfast/engines/postgres/record.py": late, "src/holdfast/cli.py": late})
    assert shape.late_imports(tmp_path) == [f"{FILE}:2: import inside f"]


@pytest.mark.parametrize("path", ["docs/a.md", "src/holdfast/a.py", "src/holdfast/engines/a.sql", "dev"])
def test_a_note_to_self_is_found(tmp_path: Path, path: str) -> None:
    plant(tmp_path, {path: "fine\n-- TO" + "DO: later\n"})
    assert shape.notes_to_self(tmp_path) == [f"{path}:2: TO" + "DO"]
