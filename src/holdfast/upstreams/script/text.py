"""What the model says, and how its tokens are counted.

One rule counts everywhere: a token is four characters, the last of a text may be shorter. So a text of n characters is
ceil(n / 4) tokens, a chunk of a stream carries one token, and any length asked for is met exactly.
"""

from holdfast.upstreams.script.distributions import seeded

TOKEN_CHARACTERS = 4

_VOCABULARY = """
    able about above acid across after again along also amber among anchor angle apple arch area around ask autumn away back
    balance bank bark basin bay beach beam begin below bend best between bird blade blue board boat body bold bottom branch bread
    bridge bright bring broad brown build calm canal cape careful carry cast cause centre chain change chart clay clear cliff climb
    close cloud coast cold colour copper coral corner count cover craft crane crest cross crown current daily dark dawn day deep
    delta depth dial distant dock door draw drift drop dry dune early earth east ebb edge eight even evening ever face fair fall
    far fast fern ferry few field find fine first fish five flat fleet float flow foam fog follow forest form forward four fresh
    from front full garden gate gather gentle give glass gold grain granite grass gravel great green grey ground grow gulf half
    hand harbour hard hold hollow home horizon hour house ice inlet inner inside iron island join keel keep kelp kind lake land
    large last late layer lead leaf learn leave left length level light line listen little long look low main many maple march
    mark marsh mast matter meadow measure middle mild mill minute mist moon morning moss move much narrow near net new next night
    nine north oak oar ocean offer often old open orange order other outer over paper part pass path pattern pebble people pier
    pine place plain plan plant planet plank plate play plum point pole pond pool port post
"""
WORDS = tuple(_VOCABULARY.split())
_STORY_WORDS = 4096


def count_tokens(text: str) -> int:
    return (len(text) + TOKEN_CHARACTERS - 1) // TOKEN_CHARACTERS


class Teller:
    """Plausible text from a digest: the first eight words say which digest, the rest is a passage of one long story."""

    __slots__ = ("_starts", "_story")

    def __init__(self, seed: int) -> None:
        self._story, self._starts = _write_story(seed)

    def tell(self, digest: bytes, tokens: int, most: int) -> str:
        """The first `most` tokens of an answer of exactly `tokens`; the text of a smaller `most` is a prefix of a larger one's."""
        shown = min(tokens, most)
        if shown <= 0:
            return ""
        characters = shown * TOKEN_CHARACTERS
        opening = " ".join([WORDS[byte] for byte in digest[:8]])
        start = self._starts[int.from_bytes(digest[8:10], "big") % len(self._starts)]
        story = self._story
        if start + characters > len(story):
            story = story * (2 + characters // len(story))
        text = (opening[0].upper() + opening[1:] + " " + story[start : start + characters])[:characters]
        return _ended(text) if shown == tokens else text


def _ended(text: str) -> str:
    """The same length, closed with a full stop that stands by a word."""
    kept = text[:-1]
    return (kept[:-1] + "s" if kept.endswith((" ", ".")) else kept) + "."


def _write_story(seed: int) -> tuple[str, list[int]]:
    random = seeded(f"story {seed}")
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    left_in_sentence = 0
    for word in random.choices(WORDS, k=_STORY_WORDS):
        first = left_in_sentence == 0
        left_in_sentence = random.randint(4, 13) if first else left_in_sentence - 1
        starts.append(length)
        part = (word.capitalize() if first else word) + (". " if left_in_sentence == 0 else " ")
        parts.append(part)
        length += len(part)
    return "".join(parts), starts
