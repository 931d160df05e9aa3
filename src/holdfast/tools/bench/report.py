"""The run as people read it, or as one JSON document a line."""

import sys

import msgspec
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
    console = Console(highlight=False)
    console.print(
        f"{machine.cores} cores, {machine.processor}, Linux {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_average:.2f} before the run"
    )
    for section in dict.fromkeys(figure.section for figure in figures):
        table = Table(title=section, title_justify="left", title_style="bold", header_style="")
        for heading in ("system", "figure"):
            table.add_column(heading, overflow="fold")
        for heading in ("median", "min..max"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        table.add_column("goal", no_wrap=True)
        for figure in (figure for figure in figures if figure.section == section):
            spread = f"{number(figure.low)}..{number(figure.high)}" if len(figure.values) > 1 else ""
            table.add_row(figure.system, figure.name, number(figure.median), spread, figure.unit, figure.goal)
        console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    for problem in problems:
        console.print(f"WRONG: {problem}", markup=False, style="bold red")


def number(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
