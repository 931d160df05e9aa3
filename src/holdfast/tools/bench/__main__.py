"""`python -m holdfast.tools.bench`: the bench without the rest of the command line."""

import argparse
import sys
from dataclasses import MISSING, fields

from holdfast.tools.bench.options import BenchOptions
from holdfast.tools.bench.session import run

OPTIONAL_TYPES = {"against_pid": int}


def words(text: str) -> tuple[str, ...]:
    """`a,b` is two words."""
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words(text))


LISTS = {"only": words, "stream_counts": numbers}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m holdfast.tools.bench", description=__doc__)
    for option in fields(BenchOptions):
        flag = "--" + option.name.replace("_", "-")
        default = None if option.default is MISSING else option.default
        if option.name in LISTS:
            parser.add_argument(
                flag,
                default=default,
                type=lambda text, of=LISTS[option.name]: tuple(of(word) for word in text.split(",")),
            )
        elif isinstance(default, bool):
            parser.add_argument(flag, default=default, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(
                flag, default=default, type=OPTIONAL_TYPES.get(option.name, str if default is None else type(default))
            )
    try:
        options = BenchOptions(**vars(parser.parse_args()))
    except ValueError as error:
        parser.error(str(error))
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
