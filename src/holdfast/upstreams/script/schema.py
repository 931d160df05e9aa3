"""A JSON value that satisfies a JSON schema, drawn from a seeded random source.

Understood: type (one or several), properties, required, items, prefixItems, minItems, maxItems, enum, const, minLength,
maxLength, format, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, anyOf, oneOf, allOf, $ref and $defs.
Not understood, and ignored: pattern, patternProperties, if/then/else, not, uniqueItems, dependent keywords.
"""

import math
from random import Random
from typing import Any

from holdfast.kernel.errors import InvalidRequestError
from holdfast.upstreams.script.text import WORDS

_SPARE_DEPTH = 6
_MOST_DEPTH = 24
_MOST_VALUES = 10_000
_MOST_CHARACTERS = 100_000
_FORMATS = {
    "date-time": "2024-05-17T09:30:00Z",
    "date": "2024-05-17",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "{0}@example.com",
    "hostname": "{0}.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/{0}",
    "uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
}


def value_for(schema: Any, random: Random) -> Any:
    """Raises InvalidRequestError where the schema cannot be read or has no end."""
    try:
        return _Maker(schema, random).make(schema, 0)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"The schema cannot be read: {error}.") from error


def _unreadable(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param="response_format")


class _Maker:
    """Optional properties are given down to a depth, then left out, so that a schema that refers to itself ends."""

    def __init__(self, root: Any, random: Random) -> None:
        self._root = root
        self._random = random
        self._made = 0

    def make(self, schema: Any, depth: int) -> Any:
        self._made += 1
        if depth > _MOST_DEPTH or self._made > _MOST_VALUES:
            raise _unreadable("The schema is too deep or too large, or has no finite value.")
        if schema is True or schema == {}:
            return self._word()
        if not isinstance(schema, dict):
            raise _unreadable("A schema is an object.")
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            target = self._resolve(schema["$ref"])
            return self.make(_merged([target, rest]) if rest else target, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._random.choice(schema["enum"])
        if "allOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.make(_merged([rest, *(self._followed(part) for part in schema["allOf"])]), depth + 1)
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                rest = {key: value for key, value in schema.items() if key != union}
                return self.make(_merged([rest, self._followed(self._branch(schema[union], depth))]), depth + 1)
        return self._typed(schema, self._type_of(schema, depth), depth)

    def _type_of(self, schema: dict[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            return str("null" if depth > _SPARE_DEPTH and "null" in kind else kind[0])
        if kind is None:
            return "object" if "properties" in schema else "array" if "items" in schema else "string"
        return str(kind)

    def _typed(self, schema: dict[str, Any], kind: str, depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer":
                return int(self._number(schema, whole=True))
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return self._random.random() < 0.5
            case "null":
                return None
        raise _unreadable(f"The schema names an unknown type {kind!r}.")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _unreadable("properties is an object and required an array.")
        wanted = properties if depth <= _SPARE_DEPTH else [name for name in properties if name in required]
        made = {name: self.make(properties[name], depth + 1) for name in wanted}
        for name in required:
            if name not in made:
                made[name] = self.make(schema.get("additionalProperties", True), depth + 1)
        return made

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        items = schema.get("items", True)
        low = max(int(schema.get("minItems", 0)), len(first))
        high = int(schema.get("maxItems", max(low, len(first), 2)))
        size = low if depth > _SPARE_DEPTH or items is False else min(high, max(low, self._random.randint(1, 3)))
        return [self.make(first[index] if index < len(first) else items, depth + 1) for index in range(size)]

    def _string(self, schema: dict[str, Any]) -> str:
        form = _FORMATS.get(str(schema.get("format")))
        if form is not None:
            return form.format(self._word())
        low = int(schema.get("minLength", 0))
        if low > _MOST_CHARACTERS:
            raise _unreadable(f"minLength is at most {_MOST_CHARACTERS} here.")
        text = " ".join(self._word() for _ in range(self._random.randint(1, 4)))
        while len(text) < low:
            text += " " + self._word()
        if "minLength" in schema or "maxLength" in schema:
            high = int(schema.get("maxLength", len(text)))
            text = text[: max(low, min(high, len(text)))]
        return text

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float | int:
        step = schema.get("multipleOf", 1 if whole else 0.25)
        low, low_out = _edge(schema, "minimum", "exclusiveMinimum", max)
        high, high_out = _edge(schema, "maximum", "exclusiveMaximum", min)
        if low is None:
            low, low_out = (0.0 if high is None or high >= 0 else high - 100 * step), False
        if high is None:
            high, high_out = low + 100 * step, False
        first = math.floor(low / step) + 1 if low_out else math.ceil(low / step)
        last = math.ceil(high / step) - 1 if high_out else math.floor(high / step)
        if first > last:
            return (low + high) / 2
        value: float = self._random.randint(first, last) * step
        return value if whole else round(value, 9)

    def _branch(self, branches: list[Any], depth: int) -> Any:
        """The first branch; deep down the one that ends soonest."""
        if depth <= _SPARE_DEPTH:
            return branches[0]
        return min(branches, key=lambda branch: "$ref" in str(branch))

    def _followed(self, schema: Any) -> Any:
        return self._resolve(schema["$ref"]) if isinstance(schema, dict) and "$ref" in schema else schema

    def _resolve(self, reference: Any) -> Any:
        found = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _unreadable(f"The schema refers to {reference!r}, which is not inside it.")
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise _unreadable(f"The schema refers to {reference!r}, which it does not hold.")
            found = found[name]
        return found

    def _word(self) -> str:
        return self._random.choice(WORDS)


def _merged(parts: list[Any]) -> dict[str, Any]:
    """Several schemas that must all hold, as one; of a keyword said twice the later is taken, but for objects' members."""
    merged: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if key == "properties":
                merged[key] = {**merged.get(key, {}), **value}
            elif key == "required":
                merged[key] = [*merged.get(key, []), *value]
            else:
                merged[key] = value
    return merged


def _edge(schema: dict[str, Any], inclusive: str, exclusive: str, tighter: Any) -> tuple[float | None, bool]:
    """A bound, and whether it is itself outside."""
    inner, outer = schema.get(inclusive), schema.get(exclusive)
    if isinstance(outer, bool):
        outer, inner = (inner, None) if outer else (None, inner)
    if outer is None:
        return inner, False
    if inner is None or tighter(inner, outer) == outer:
        return outer, True
    return inner, False
