"""The OpenAPI document of the control API, as its clients and fuzzers need it: every error said, with its media type."""

import json
from typing import Any

from fastapi import FastAPI

from holdfast.edge.server.problems import DOCUMENTED, MEDIA_TYPE, Fault, Problem

REFERENCE = "#/components/schemas/"


def describe(api: FastAPI) -> dict[str, Any]:
    """The whole document."""
    document = api.openapi()
    schemas = document["components"]["schemas"]
    for model in (Problem, Fault):
        schema = model.model_json_schema(ref_template=REFERENCE + "{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    for left_over in ("HTTPValidationError", "ValidationError"):
        schemas.pop(left_over, None)
    content = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE + "Problem"}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _present(parameter["schema"])
            responses = operation["responses"]
            responses.pop("422", None)
            for status in DOCUMENTED:
                responses[str(status)]["content"] = content
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key with a role."}
    }
    document["security"] = [{"key": []}]
    return document


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out or it has a value; there is no null in a query or a header."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **choices[0]}


def written(api: FastAPI) -> bytes:
    return json.dumps(describe(api), separators=(",", ":")).encode()
