"""The OpenAPI document of the model API. What Holdfast reads of a body is described by the structs it reads it with; every
other field passes to the provider, and so does whatever the provider answers."""

from typing import Any

import msgspec

from holdfast.dialects.openai.request import ChatFields, EmbeddingFields

REFERENCE = "#/components/schemas/"
OURS = {
    400: "The request cannot be read, or a field of it is wrong; `param` names the field.",
    401: "No key, an unknown key, or one that expired or was revoked.",
    403: "The key may not do this, or a budget applies and the model has no price.",
    404: "There is no such model, or none that this key may use.",
    405: "The path exists, the method does not; `allow` says which do.",
    408: "The request arrived too slowly.",
    413: "The body is larger than `server.max_body_bytes`.",
    429: "A limit or a budget is used up; `x-should-retry: false` where waiting cannot help.",
    431: "The headers are too large.",
    500: "A defect of Holdfast; the request id finds it in the log.",
    502: "The provider cannot be reached, or its answer cannot be read.",
    503: "Too much is in flight, a store is away, or this process stops; `retry-after` says when.",
    504: "A time limit of the route passed.",
}
PROVIDERS = {
    "4XX": "The provider's own refusal, as it came.",
    "5XX": "The provider's own failure, as it came.",
}
TEXT = {"type": "string"}
MESSAGE = {"type": "object", "required": ["role"], "properties": {"role": TEXT}}
MESSAGES = {"type": "array", "minItems": 1, "items": MESSAGE}
TOKENS = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
INPUT = {
    "anyOf": [{"type": "string", "minLength": 1}, TEXTS, TOKENS, {"type": "array", "minItems": 1, "items": TOKENS}]
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "message": TEXT,
                "type": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
COMPLETION = {
    "type": "object",
    "required": ["choices"],
    "properties": {"id": TEXT, "model": TEXT, "choices": {"type": "array"}, "usage": {"type": ["object", "null"]}},
}
EMBEDDING_LIST = {"type": "object", "required": ["data"], "properties": {"data": {"type": "array"}, "model": TEXT}}
MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": TEXT,
    },
}
MODEL_LIST = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {
        "object": {"const": "list"},
        "data": {"type": "array", "items": {"$ref": REFERENCE + "Model"}},
    },
}
ROUTE = {
    "name": "X-Holdfast-Route",
    "in": "header",
    "description": "Chooses the route whose `header` is this value.",
    "schema": {"type": "string"},
}


def written() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(described())


def described() -> dict[str, Any]:
    """The document as plain data."""
    _, schemas = msgspec.json.schema_components((ChatFields, EmbeddingFields), ref_template=REFERENCE + "{name}")
    schemas["ChatFields"]["properties"]["messages"] = MESSAGES
    schemas["EmbeddingFields"]["properties"]["input"] = INPUT
    schemas |= {
        "Error": ERROR,
        "Completion": COMPLETION,
        "EmbeddingList": EMBEDDING_LIST,
        "Model": MODEL,
        "ModelList": MODEL_LIST,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast model API",
            "version": "1",
            "description": "OpenAI's API for every model of this Holdfast. Errors of ours and of providers have one envelope.",
        },
        "security": [{"key": []}],
        "paths": {
            "/v1/chat/completions": {
                "post": asked("createChatCompletion", "Ask a chat model.", "ChatFields", "Completion", streams=True)
            },
            "/v1/embeddings": {
                "post": asked("createEmbedding", "Turn texts into vectors.", "EmbeddingFields", "EmbeddingList")
            },
            "/v1/models": {"get": looked_up("listModels", "The models this key may use.", "ModelList")},
            "/v1/models/{model}": {
                "get": looked_up("retrieveModel", "One model this key may use.", "Model")
                | {
                    "parameters": [
                        {
                            "name": "model",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
                        }
                    ]
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key that may call."}
            },
        },
    }


def asked(id: str, summary: str, body: str, answer: str, *, streams: bool = False) -> dict[str, Any]:
    """A model call: a provider may answer it in any way."""
    content = {"application/json": referred(answer)}
    if streams:
        content["text/event-stream"] = {}
    return {
        "operationId": id,
        "summary": summary,
        "parameters": [ROUTE],
        "requestBody": {"required": True, "content": {"application/json": referred(body)}},
        "responses": {
            "200": {"description": "The provider's answer.", "content": content},
            **{str(status): refused(said) for status, said in OURS.items()},
            **{status: refused(said) for status, said in PROVIDERS.items()},
        },
    }


def looked_up(id: str, summary: str, answer: str) -> dict[str, Any]:
    """What Holdfast answers by itself."""
    statuses = (400, 401, 404, 405, 408, 413, 431, 500, 503)
    return {
        "operationId": id,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {"application/json": referred(answer)}},
            **{str(status): refused(OURS[status]) for status in statuses},
        },
    }


def refused(said: str) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": referred("Error")}}


def referred(schema: str) -> dict[str, Any]:
    return {"schema": {"$ref": REFERENCE + schema}}
