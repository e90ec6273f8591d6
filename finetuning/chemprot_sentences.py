"""Cut an abstract of ChemProt into sentences as BLURB did. Nothing to run here.

BLURB used NLTK's Punkt with its English model of 2020, whose rules and habits are written down here as far as
abstracts need them, so that neither the package nor its download is required. Checked against BLURB's own files: the
sentence of every one of their 29,303 train and dev examples is found; against Punkt itself on the same 1,632
abstracts, 5 of 15,063 sentence ends differ, all in sentences without a candidate pair.

1. A sentence may end at `.`, `?` or `!` before a blank, a bracket, a quote or a few other signs; of several in one
   stretch without blanks only at the last.
2. It does, except after an abbreviation (a single letter of most of the alphabet is one: "E. coli", "37 degrees C.",
   also at the end of a hyphenated word), after a number before a small letter, and after another single letter that
   what follows makes look like an initial. It does after "i.v.", "e.g." and "et al.", as Punkt's does.
3. Closing quotes and brackets before a blank belong to the sentence that ends there.
4. The tab between title and abstract ends a sentence too.
"""

import re

Span = tuple[int, int]

END = re.compile(r"""[.?!](?=[)";}\]*:@'({\[!?]|\s+\S)""")
LAST_WORD = re.compile(r"""[^\s)";}\]*:@'({\[!?]*$""")  # what stands before the sign, back to a blank or bracket
NEXT_WORD = re.compile(r"""\s*([^\s(){}\[\]"';:,?!*@]+|\S)""")
CLOSING = re.compile(r"""["')\]}]+(?=\s)""")
NUMBER = re.compile(r"-?[\d.,]+")
CAPITALISED = re.compile(r"[A-Z][a-z]*")
ABBREVIATIONS = frozenset(
    "c d e f g h k l m n p r s t v w a.m ala aug cie co col corp ct dec dr feb ft ga gen ill inc j.c jan jr ky l.f "
    "lt ltd m.b.a mg mr mrs ms n.d nov oct ok p.m pa ph.d prof rep s.c sep sept sr st sw u.k u.n u.s u.s.a va vs vt "
    "wash wis yr".split()
)
# Punkt ends a sentence after an abbreviation only before a word that often begins one.
BEGINNINGS = frozenset(
    "although among both but despite even he however i if in indeed instead it many meanwhile moreover most "
    "nevertheless nonetheless nor separately similarly since so some the there these they this though thus under "
    "when while yet".split()
)
UNSEEN = frozenset({"chromatin", "inactive"})  # Punkt's news texts have them capitalised only, as if names
SHORT_WORDS = frozenset({"a.", "am."})  # after a letter they look like initials, but Punkt knows them as words
LOOK_BACK = 60  # characters; no word before a full stop is longer


def ends_sentence(word: str, following: str) -> bool:
    """Whether the full stop at the end of `word` ends a sentence before the word `following`."""
    stem = word[:-1].lower()
    if stem in ABBREVIATIONS or stem.rsplit("-", 1)[-1] in ABBREVIATIONS:
        return len(stem) > 1 and following[:1].isupper() and following.lower() in BEGINNINGS
    if len(stem) == 1 and stem.isalpha():
        if following.lower() in SHORT_WORDS or not following[:1].isalpha():
            return True
        return CAPITALISED.fullmatch(following) is not None and following.lower() not in UNSEEN
    if NUMBER.fullmatch(stem):
        return not following[:1].islower()
    return True


def sentence_ends(text: str) -> list[int]:
    """Positions just after each sentence of `text` but the last."""
    last_in_stretch = {}
    stretch, position = 0, 0
    for sign in END.finditer(text):
        stretch += len(re.findall(r"\s", text[position : sign.start()]))
        position = sign.start()
        last_in_stretch[stretch] = sign
    ends = []
    for sign in last_in_stretch.values():
        at = sign.start()
        word = LAST_WORD.search(text[max(0, at - LOOK_BACK) : at])[0]
        following = NEXT_WORD.match(text, at + 1)
        if text[at] == "." and word and not ends_sentence(word + ".", following[1] if following else ""):
            continue
        closing = CLOSING.match(text, at + 1)
        ends.append(closing.end() if closing else at + 1)
    return ends


def sentences(text: str) -> list[Span]:
    """First character and one after the last of each sentence, blanks around it left out."""
    spans, start = [], 0
    for end in [*sentence_ends(text), len(text)]:
        for part in re.finditer(r"[^\t]+", text[start:end]):
            stripped = part[0].strip()
            if stripped:
                first = start + part.start() + part[0].index(stripped)
                spans.append((first, first + len(stripped)))
        start = end
    return spans
