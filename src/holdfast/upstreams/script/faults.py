"""What the scripted model can be told to do wrong. `holdfast sim --help` and the docs print this table."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Fault:
    """`refuses`: the model is never asked, so the call costs no tokens. `after_tokens`: where it strikes when `after` is not said."""

    help: str
    refuses: bool = False
    after_tokens: int = 1


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "none": Fault("No fault, whatever schedule, server or model name say."),
        "status": Fault(
            "Answers the error `status` (default 500) in OpenAI's envelope, with Retry-After where `retry_after` is said (429: 1). "
            "A bare number says the same: `fault=429`, `fault=503`, `fault=529`.",
            refuses=True,
        ),
        "context_length_exceeded": Fault("Answers 400 with the code context_length_exceeded.", refuses=True),
        "hang": Fault("Reads the request and never answers; the connection stays open."),
        "stall": Fault(
            "Goes silent after `after` tokens; the connection stays open. Not streaming: after half of the body."
        ),
        "cut": Fault(
            "Closes the connection amid the frame after `after` tokens. Not streaming: after half of the body."
        ),
        "reset": Fault(
            "Resets the connection (RST) once the request is read; with `after`, once so many tokens are sent. "
            "Not streaming, with `after`: after half of the body.",
            after_tokens=-1,
        ),
        "truncate": Fault(
            "Ends well-formed after `after` tokens, without finish reason, usage and [DONE]. Not streaming: the finish reason is null."
        ),
        "error_event": Fault("After `after` tokens an error event, which ends the stream. Not streaming: status 500."),
        "drip": Fault("Sends the body `drip_bytes` at a time, one piece each `drip_ms`."),
        "empty": Fault("A valid answer, status 200, that says nothing.", after_tokens=0),
        "blank": Fault("Status 200 and a body of zero bytes.", after_tokens=0),
        "junk": Fault(
            "Status 200 and no JSON: the frame after `after` tokens, which is the last; not streaming: half of an object."
        ),
        "wrong_model": Fault("Names another model in the answer than was asked for."),
        "duplicate": Fault("Sends the chunk after `after` tokens twice. Not streaming: no effect."),
        "no_usage": Fault("Leaves usage out of the answer, though it was asked for. Embeddings: no effect."),
        "content_filter": Fault("Stops after `after` tokens with the finish reason content_filter."),
        "tls_refused": Fault(
            "Closes the connection in the TLS handshake. In process for a call; over HTTP for a whole port: `holdfast sim --tls-refuse`.",
            refuses=True,
        ),
    }
)
