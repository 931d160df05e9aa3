"""Who may import whom: one import-linter contract type that reads like the table it holds.

A row names rooms (packages) or modules and what they may import. The standard library and a room's own modules are always
allowed, everything else has to be named; so a new dependency is a decision somebody makes here, in view.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

PACKAGE = "holdfast"


def matches(pattern: str, module: str) -> bool:
    """`*` stands for one name, `**` for one or more."""
    return _match(pattern.split("."), module.split("."))


def _match(pattern: list[str], names: list[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        return any(_match(rest, names[taken:]) for taken in range(1, len(names) + 1))
    return head in ("*", names[0]) and _match(rest, names[1:])


def room_of(patterns: Iterable[str], module: str) -> str | None:
    """The package that matches one of the patterns and holds the module."""
    names = module.split(".")
    for length in range(1, len(names) + 1):
        room = ".".join(names[:length])
        if any(matches(pattern, room) for pattern in patterns):
            return room
    return None


class Row(NamedTuple):
    """One contract of pyproject.toml."""

    id: str
    name: str
    rooms: tuple[str, ...]
    modules: tuple[str, ...]
    may_import: tuple[str, ...]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Row":
        return cls(
            options.get("id", ""),
            options.get("name", ""),
            tuple(options.get("rooms", ())),
            tuple(options.get("modules", ())),
            tuple(options["may_import"]),
        )

    def holds(self, module: str) -> bool:
        return any(matches(pattern, module) for pattern in self.modules) or room_of(self.rooms, module) is not None

    def allows(self, module: str, target: str) -> bool:
        room = room_of(self.rooms, module)
        if room is not None and room_of([room], target) == room:
            return True
        return target in sys.stdlib_module_names or room_of(self.may_import, target) is not None


def rows(pyproject: Path) -> list[Row]:
    return [Row.of(options) for options in tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]]


def homeless(src: Path, table: list[Row]) -> list[str]:
    """Every module stands in exactly one row, or nobody watches what it imports."""
    found = []
    for path in sorted((src / PACKAGE).rglob("*.py")):
        names = path.relative_to(src).with_suffix("").parts
        module = ".".join(names[:-1] if names[-1] == "__init__" else names)
        owners = [row.id for row in table if row.holds(module)]
        if len(owners) != 1:
            found.append(
                f"{module} stands in {' and '.join(owners) or 'no row'} of [tool.importlinter] in pyproject.toml"
            )
    return found


class MayImport(Contract):
    """`rooms` are packages whose modules may import each other; `modules` stand each for themselves."""

    type_name = "may_import"
    rooms = fields.ListField(subfield=fields.StringField(), required=False)
    modules = fields.ListField(subfield=fields.StringField(), required=False)
    may_import = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        row = Row.of(self.contract_options)
        broken = []
        for module in filter(row.holds, sorted(graph.modules)):
            for target in sorted(graph.find_modules_directly_imported_by(module)):
                if not row.allows(module, target):
                    lines = graph.get_import_details(importer=module, imported=target)
                    broken.append(
                        f"{module} imports {target} (line {', '.join(str(line['line_number']) for line in lines)})"
                    )
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for line in check.metadata["broken"]:
            output.print_error(f"- {line}", bold=False)
        output.new_line()
