"""Embeddings without a model: words are hashed to signed directions, so texts that share words lie near each other.

The vector of a text depends on nothing but the text and `dimensions` (1536 where it is not said), and has length 1.
"""

import base64
import hashlib
import math
import re
import struct
from collections.abc import Sequence

from holdfast.dialects.openai.answer import embeddings
from holdfast.kernel.errors import InvalidRequestError
from holdfast.upstreams.script.asked import Embeddings
from holdfast.upstreams.script.chat import JSON_HEADERS, break_body
from holdfast.upstreams.script.options import Personality
from holdfast.upstreams.script.plan import Pace, Plan
from holdfast.upstreams.script.text import count_tokens

DIMENSIONS = 1536
_MOST_DIMENSIONS = 8192
_MOST_NUMBERS = 4_000_000
_WORD = re.compile(r"\w+")
_DIRECTIONS = struct.Struct("<8H")


def embed(item: str | Sequence[int], dimensions: int) -> list[float]:
    words = _WORD.findall(item.lower()) or [item] if isinstance(item, str) else [str(token) for token in item]
    vector = [0.0] * dimensions
    for word in words:
        for draw in _DIRECTIONS.unpack(hashlib.blake2b(word.encode(), digest_size=16).digest()):
            vector[(draw >> 1) % dimensions] += 1.0 if draw & 1 else -1.0
    length = math.sqrt(sum(number * number for number in vector))
    if length == 0:
        vector[0], length = 1.0, 1.0
    return [number / length for number in vector]


def input_tokens(inputs: Sequence[str | list[int]]) -> int:
    return sum(count_tokens(item) if isinstance(item, str) else len(item) for item in inputs)


def answer_embeddings(
    asked: Embeddings, inputs: Sequence[str | list[int]], personality: Personality, fault: str, pace: Pace, id: str
) -> Plan:
    dimensions = DIMENSIONS if asked.dimensions is None else asked.dimensions
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise InvalidRequestError(f"dimensions must be from 1 to {_MOST_DIMENSIONS}.", param="dimensions")
    if dimensions * len(inputs) > _MOST_NUMBERS:
        raise InvalidRequestError(f"Inputs times dimensions must be at most {_MOST_NUMBERS}.", param="input")
    if asked.encoding_format not in (None, "float", "base64"):
        raise InvalidRequestError("encoding_format is float or base64.", param="encoding_format")
    packing = struct.Struct(f"<{dimensions}f")
    vectors: list[str | Sequence[float]] = []
    for item in inputs if fault != "empty" else ():
        packed = packing.pack(*embed(item, dimensions))
        vectors.append(
            base64.b64encode(packed).decode() if asked.encoding_format == "base64" else packing.unpack(packed)
        )
    tokens = input_tokens(inputs)
    model = "another-model" if fault == "wrong_model" else asked.model
    plan = Plan(200, JSON_HEADERS, pace, id=id, body=embeddings(model, vectors, tokens), prompt_tokens=tokens)
    if fault == "drip":
        plan.drip = (personality.drip_bytes, personality.drip_ms / 1000)
    break_body(fault, plan)
    return plan
