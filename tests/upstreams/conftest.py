"""What promises to work on any event loop is tested on both: a module says so by `ON_BOTH_LOOPS = True`."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]
BOTH: LoopFactories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> LoopFactories:
    module = getattr(item, "module", None)
    return BOTH if getattr(module, "ON_BOTH_LOOPS", False) else {"asyncio": asyncio.new_event_loop}
