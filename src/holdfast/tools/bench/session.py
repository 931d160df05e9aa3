"""One run of the bench, from the options to the exit code."""

import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

from holdfast.tools.bench import engines, latency, memory, requests, streams
from holdfast.tools.bench.children import BenchError, Children
from holdfast.tools.bench.figures import Figure
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.machine import OTHERS, describe
from holdfast.tools.bench.options import BenchOptions
from holdfast.tools.bench.report import print_json, print_tables

MEASURES: Mapping[str, Callable[[Lab], list[Figure]]] = {
    "requests": requests.measure,
    "latency": latency.measure,
    "streams": streams.measure,
    "memory": memory.measure,
    "engines": engines.measure,
}

OTHERS_TO_TELL = 5.0


def run(options: BenchOptions) -> int:
    """Measure and print. 0 when every answer was right, 1 when one was wrong or a system would not run; never a matter of speed."""
    if options.quick:
        options = shortened(options)
    raise_open_files()
    machine = describe()
    figures: list[Figure] = []
    notes: list[str] = []
    problems: list[str] = []
    try:
        with Children() as children:
            lab = Lab(children, options)
            notes, problems = lab.notes, lab.problems
            for section in options.sections:
                figures += MEASURES[section](lab)
            busiest = max((figure.high for figure in figures if figure.name == OTHERS), default=0.0)
            if busiest > OTHERS_TO_TELL:
                lab.note(f"other work took up to {busiest:.0f} % of the machine: trust the ratios, not the figures")
    except BenchError as error:
        problems.append(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped; everything it started has ended\n")
        return 130
    show = print_json if options.json else print_tables
    show(machine, figures, notes, problems)
    return 1 if problems else 0


def shortened(options: BenchOptions) -> BenchOptions:
    """Every section in seconds: it proves that the bench and what it drives work, and no more."""
    return replace(
        options,
        rounds=1,
        seconds=min(options.seconds, 1.0),
        connections=min(options.connections, 16),
        latency_calls=200,
        stream_counts=(50,),
        stream_seconds=min(options.stream_seconds, 2.0),
        stream_rounds=1,
        memory_calls=min(options.memory_calls, 2000),
        long=False,
        find_max=False,
    )


def raise_open_files() -> None:
    """A thousand streams are two thousand sockets in a gateway; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
