"""`python -m holdfast.tools.bench`: the bench without the rest of the command line."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields

from holdfast.tools.bench.options import BenchOptions
from holdfast.tools.bench.session import run


def words(text: str) -> tuple[str, ...]:
    """`a,b` is two words."""
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words(text))


READERS: Mapping[str, Callable[[str], object]] = {"only": words, "stream_counts": numbers, "against_pid": int}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m holdfast.tools.bench", description=__doc__)
    for option in fields(BenchOptions):
        flag = "--" + option.name.replace("_", "-")
        default = None if option.default is MISSING else option.default
        if isinstance(default, bool):
            parser.add_argument(flag, default=default, action=argparse.BooleanOptionalAction)
        else:
            plain: Callable[[str], object] = str if default is None else type(default)
            parser.add_argument(flag, default=default, type=READERS.get(option.name, plain))
    try:
        options = BenchOptions(**vars(parser.parse_args()))
    except ValueError as error:
        parser.error(str(error))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
