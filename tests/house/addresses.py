"""Where packages come from is each machine's own business: no tracked file names an index."""

import json
import re
from pathlib import Path

from tests.house.tree import text_of, tracked

# Spelt so that this file does not hold what it looks for.
OPTION = re.compile(
    r"(?<![\w-])--(?:extra-)?index-url\b|(?<![\w-])--find-link[s]\b|(?<![\w-])--regist[r]y\b|^registry\s*=",
    re.MULTILINE,
)
HOST = re.compile(
    r"pypi[.]org|python[h]osted[.]org|registry[.]npm[j]s|registry[.]yarn[p]kg|crates[.]io|proxy[.]golang", re.IGNORECASE
)


def index_addresses(root: Path) -> list[str]:
    said = []
    for path in tracked(root):
        text = text_of(path)
        if text is None:
            continue
        place = path.relative_to(root).as_posix()
        said += [f"{place}: {found}" for pattern in (OPTION, HOST) for found in sorted(set(pattern.findall(text)))]
        if place.startswith("requirements/") and "://" in text:
            said.append(f"{place}: holds an address")
        if path.name == "package-lock.json":
            said += [
                f"{place}: {name} says where it was resolved"
                for name, entry in json.loads(text)["packages"].items()
                if "resolved" in entry
            ]
    return said
