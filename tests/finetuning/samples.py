"""Eight tagged sentences, and how each of the community's file formats writes them."""

from pathlib import Path

# (word, IOB2 tag); two types, entities of one and of two words, two neighbours, one that ends a sentence
SENTENCES = [
    "Naloxone/B-Chemical reverses/O high/O blood/O pressure/O",
    "lithium/B-Chemical carbonate/I-Chemical caused/O liver/B-Disease failure/I-Disease",
    "no/O change/O was/O seen/O with/O lithium/B-Chemical carbonate/I-Chemical",
    "patients/O with/O liver/B-Disease failure/I-Disease improved/O",
    "Naloxone/B-Chemical lithium/B-Chemical carbonate/I-Chemical and/O cocaine/B-Chemical",
    "cocaine/B-Chemical seizures/B-Disease were/O seen/O",
    "seizures/B-Disease were/O treated/O with/O cocaine/B-Chemical",
    "the/O patients/O improved/O",
]


def pairs(sentence: str) -> list[tuple[str, str]]:
    """[(word, IOB2 tag), ...] of one line of SENTENCES."""
    return [tuple(cell.rsplit("/", 1)) for cell in sentence.split()]


def iobes(tags: list[str]) -> list[str]:
    """IOB2 -> IOBES, written apart from the code under test."""
    result = []
    for tag, following in zip(tags, [*tags[1:], "O"], strict=True):
        last = not following.startswith("I")
        prefix = {"B": "S" if last else "B", "I": "E" if last else "I", "O": "O"}[tag[0]]
        result.append(prefix + tag[1:])
    return result


def write_split(path: Path, sentences: list[str], form: str) -> None:
    """Write one split: "biobert" (bare chemicals), "iob", "iobes", "scibert" (IOB1, 4 columns, merged)."""
    blocks = []
    for sentence in map(pairs, sentences):
        words, tags = [word for word, _ in sentence], [tag for _, tag in sentence]
        if form == "biobert":
            tags = [tag[0] if tag.endswith("Chemical") else "O" for tag in tags]
        elif form == "iobes":
            tags = iobes(tags)
        elif form == "scibert":  # as SciBERT's files: an entity of one word is a bare I, of more starts with B
            after = [*tags[1:], "O"]
            single = [tag[0] == "B" and following[0] != "I" for tag, following in zip(tags, after, strict=True)]
            tags = [
                "O" if tag == "O" else ("I" if one else tag[0]) + "-Entity"
                for tag, one in zip(tags, single, strict=True)
            ]
        middle = "\tNOUN\tO\t" if form == "scibert" else "\t"
        blocks.append("\n".join(f"{word}{middle}{tag}" for word, tag in zip(words, tags, strict=True)))
    if form == "scibert":
        text = "-DOCSTART- (227508)\n\n" + "\n\n".join(blocks) + "\n\n\n"
    else:
        text = "\n\n".join(blocks) + ("\n" if form == "iobes" else "\n\n")
    path.write_text(text, encoding="utf-8")


def write_benchmark(folder: Path, form: str) -> Path:
    """train = dev = test, under the file names that this form has."""
    folder.mkdir(parents=True)
    names = ("train.txt", "dev.txt", "test.txt") if form == "scibert" else ("train.tsv", "devel.tsv", "test.tsv")
    for name in names:
        write_split(folder / name, SENTENCES, form)
    return folder
