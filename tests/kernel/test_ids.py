"""Identifiers are unique, look alike, and are near each other where they are made near each other."""

import re

from holdfast.kernel.ids import POOL, Ids, make_id

ID = re.compile(r"call_[0-9a-f]{32}")


def test_identifiers_are_unique_and_look_alike() -> None:
    ids = Ids("call")
    made = [*(ids.make() for _ in range(3 * POOL)), *(Ids("call").make() for _ in range(100)), make_id("call")]
    assert len(set(made)) == len(made)
    assert all(ID.fullmatch(one) for one in made)


def test_an_index_of_them_grows_in_one_place_at_a_time() -> None:
    ids = Ids("call")
    made = [ids.make() for _ in range(4 * POOL)]
    regions = [one[: len("call_") + 12] for one in made]
    assert len(set(regions)) == 4
    assert regions == [regions[index // POOL * POOL] for index in range(len(regions))]
