"""What a call used, in the one way of counting all dialects are brought to."""

from typing import NamedTuple


class Usage(NamedTuple):
    """Tokens of one attempt. `input_tokens` includes the cached ones; `cached_*`, `audio_*` and `reasoning` are parts
    of their side, never further tokens. `estimated` marks counts that no provider reported."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_read_tokens: int = 0
    cached_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    estimated: bool = False


NO_USAGE = Usage()
