"""Running text to sentences and words, each with its place in the text. Nothing to run here.

Both are rules that look at the text alone, never at its annotations: training, test and new text are cut the
same way, and no word border tells a model where an entity is.

- A word is a run of letters and digits, or one other character that is not white space; marks that combine with the
  character before them (a decomposed accent, U+0301) belong to its word. So words never cross the borders at which
  BERT's tokenizers split. Measured on BC5CDR, NCBI-disease (PubTator) and JNLPBA (standoff):
  47 of 94,853 entities begin or end inside such a word (`5-HT6`, `Ca2+`), 0.05 %.
- A sentence ends after `.`, `!` or `?` (and closing brackets or quotes) before white space and a capital letter or
  digit, unless the dot belongs to an abbreviation; and at a line break before anything but a small
  letter, so that titles without a dot end and wrapped lines do not.
"""

import re

Place = tuple[int, int]  # first character, one after the last

COMBINING = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]"
WORD = re.compile(rf"[^\W_]+(?:{COMBINING}+[^\W_]*)*|\S{COMBINING}*")
SENTENCE_END = re.compile(r"[.!?][)\]\"'’”]*\s+(?=[\"'‘“(\[]*[^\W_a-z])|\s*\n\s*(?=[^\sa-z])")
ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|vs|cf|ca|approx|resp|Fig|Figs|Eq|Eqs|Ref|Refs|No|Nos|Vol|Dr|Mr|Mrs|Prof|St|sp|spp|subsp|ssp|var|"
    r"str)\.$"
)


def sentence_places(text: str) -> list[Place]:
    """Where the sentences of `text` are: in order, without the white space between them."""
    starts = [0]
    for end in SENTENCE_END.finditer(text):
        mark = end.group().rstrip()
        if mark != "." or not ABBREVIATION.search(text[max(0, end.start() - 8) : end.start() + 1]):
            starts.append(end.end())
    places = []
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:stop]
        begin = start + len(part) - len(part.lstrip())
        stop = start + len(part.rstrip())
        if begin < stop:
            places.append((begin, stop))
    return places


def word_places(text: str, start: int, end: int) -> list[Place]:
    """Where the words of text[start:end] are, in the whole text."""
    return [match.span() for match in WORD.finditer(text, start, end)]
