"""Which tools the model calls, and with which arguments.

It calls when `tool_choice` is "required" (the first tool; `calls=N`: the first N), when it names a function (that one), and
else when the last message is the user's and holds the marker [call] (the first tool) or [call:NAME], one call a marker.
With `parallel_tool_calls` false it makes one call at most.
"""

import re
from random import Random
from typing import Any

import msgspec

from holdfast.dialects.openai.answer import ToolCall
from holdfast.kernel.errors import InvalidRequestError
from holdfast.upstreams.script.asked import Chat
from holdfast.upstreams.script.schema import value_for

_MARKER = re.compile(r"\[call(?::([A-Za-z0-9_.-]{1,128}))?\]")


def tool_calls(chat: Chat, random: Random, required_calls: int) -> list[ToolCall]:
    if not chat.tools or chat.tool_choice == "none":
        return []
    names = _wanted(chat, [_function(tool)["name"] for tool in chat.tools], required_calls)
    if chat.parallel_tool_calls is False:
        names = names[:1]
    return [_call(name, chat.tools, random) for name in names]


def _wanted(chat: Chat, known: list[str], required_calls: int) -> list[str]:
    choice = chat.tool_choice
    if isinstance(choice, dict):
        named = choice.get("function")
        name = named.get("name") if isinstance(named, dict) else None
        if name not in known:
            raise InvalidRequestError("tool_choice names no function of tools.", param="tool_choice")
        return [str(name)]
    if choice not in (None, "auto", "required"):
        raise InvalidRequestError('tool_choice is "none", "auto", "required" or a function.', param="tool_choice")
    marked = [name or known[0] for name in _MARKER.findall(_last_words(chat))]
    if marked:
        unknown = [name for name in marked if name not in known]
        if unknown:
            raise InvalidRequestError(
                f"The prompt marks a call of {unknown[0]}, which is not in tools.", param="messages"
            )
        return marked
    return known[:required_calls] if choice == "required" else []


def _last_words(chat: Chat) -> str:
    last = chat.messages[-1]
    content = last.get("content")
    if last["role"] != "user":
        return ""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError("Each of tools holds a function with a name.", param="tools")
    return function


def _call(name: str, tools: list[dict[str, Any]], random: Random) -> ToolCall:
    function = next(function for function in map(_function, tools) if function["name"] == name)
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    arguments = msgspec.json.encode(value_for(schema, random)).decode()
    return f"call_{random.getrandbits(96):024x}", name, arguments
