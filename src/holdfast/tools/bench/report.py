"""The run as people read it, or as one JSON document a line."""

import sys

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from holdfast.tools.bench.figures import Figure
from holdfast.tools.bench.machine import Machine


def print_json(machine: Machine, figures: list[Figure], notes: list[str], problems: list[str]) -> None:
    """First the machine, then a line a figure, at last whether all answers were right."""
    lines: list[object] = [{"machine": machine}]
    lines += [
        {
            "section": figure.section,
            "system": figure.system,
            "figure": figure.name,
            "unit": figure.unit,
            "median": round(figure.median, 4),
            "min": round(figure.low, 4),
            "max": round(figure.high, 4),
            "rounds": [round(value, 4) for value in figure.values],
            "goal": figure.goal or None,
        }
        for figure in figures
    ]
    lines.append({"ok": not problems, "problems": problems, "notes": notes})
    for line in lines:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.flush()


def print_tables(machine: Machine, figures: list[Figure], notes: list[str], problems: list[str]) -> None:
    """A section is two tables: what each system did, side by side, and how they compare."""
    console = Console(highlight=False)
    console.print(
        f"{machine.cores} cores, {machine.processor}, Linux {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_average:.2f} before the run"
    )
    for section in dict.fromkeys(figure.section for figure in figures):
        mine = [figure for figure in figures if figure.section == section]
        console.print(f"\n{section}", style="bold")
        for table in (side_by_side(mine), compared(mine)):
            if table.row_count:
                console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    for problem in problems:
        console.print(f"WRONG: {problem}", markup=False, style="bold red")


def side_by_side(figures: list[Figure]) -> Table:
    """A row a quantity, a column a system, median and min..max in each cell."""
    plain = [figure for figure in figures if not figure.compares]
    systems = list(dict.fromkeys(figure.system for figure in plain))
    goals = {figure.name: figure.goal for figure in plain if figure.goal}
    table = Table(box=SIMPLE)
    table.add_column("")
    for system in systems:
        table.add_column(system, justify="right")
    if goals:
        table.add_column("goal", no_wrap=True)
    cells = {(figure.name, figure.system): figure for figure in plain}
    for name, unit in dict.fromkeys((figure.name, figure.unit) for figure in plain):
        row = [spread(cells[name, system]) if (name, system) in cells else "" for system in systems]
        table.add_row(f"{name}, {unit}", *row, *([goals.get(name, "")] if goals else []))
    return table


def compared(figures: list[Figure]) -> Table:
    table = Table(box=SIMPLE)
    for heading in ("compared", ""):
        table.add_column(heading)
    table.add_column("median  min..max", justify="right")
    table.add_column("unit", no_wrap=True)
    table.add_column("goal", no_wrap=True)
    for figure in figures:
        if figure.compares:
            table.add_row(figure.system, figure.name, spread(figure), figure.unit, figure.goal)
    return table


def spread(figure: Figure) -> str:
    if len(figure.values) < 2:
        return number(figure.median)
    return f"{number(figure.median)}  {number(figure.low)}..{number(figure.high)}"


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
