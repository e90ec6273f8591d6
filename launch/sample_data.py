"""A made-up corpus in PubMed's XML and a made-up benchmark in BC5CDR's format, to try the whole chain.

    python launch/sample_data.py --output DIR [--abstracts N] [--seed S]

writes DIR/pubmed/madeup26n0001.xml.gz ..., DIR/benchmark/{train,devel,test}.tsv and, last, DIR/manifest.json.
The same options give the same bytes. Nothing here is real: names, findings, authors and journals come from
this file and from sample_grammar.txt beside it.

How it is made, so that pretraining is what solves the benchmark:
1. One grammar of syllables makes the names of chemicals, diseases, devices and sites, dealt out at random:
   spelling tells nothing of a name's kind.
2. Most abstracts are on one kind (pharmacology, pathology, engineering, public health), with words of its
   own and in sentences where only that kind can stand: a small network learns the kinds in minutes.
3. The benchmark asks for chemicals and diseases, mostly in sentences where devices and sites could stand too,
   and most names of devel and test do not occur in train: spotting a name is not enough.
"""

import argparse
import gzip
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

KINDS = ("chemical", "disease", "device", "site")
NAMES_PER_KIND = 40
SPLITS = {"train": slice(0, 14), "devel": slice(14, 23), "test": slice(23, 40)}  # of the names of each kind
SENTENCES_PER_SPLIT = {"train": 400, "devel": 150, "test": 200}
THEMED_SHARE = 0.8  # of the abstracts have names of one kind only
RECORDS_PER_FILE = 500
FIRST_PMID = 90_000_001  # far above those given out so far

XML_OPENING = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" \
"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">
"""
MARKUP = (
    ("CO2", "CO<sub>2</sub>"),
    ("HCO3", "HCO<sub>3</sub>"),
    ("10^9", "10<sup>9</sup>"),
    ("in vitro", "<i>in vitro</i>"),
    ("P &lt;", "<i>P</i> &lt;"),
)
# Sections of an abstract, and how many sentences of its own each has at least and at most.
SECTIONS = {"background": (2, 3), "methods": (3, 4), "results": (4, 5), "conclusions": (1, 2)}

Grammar = dict[str, list[str]]  # the lines of each section of sample_grammar.txt
Names = dict[str, list[str]]  # of each kind
Tokens = list[tuple[str, str]]  # word, IOB tag
Mention = Callable[[str], Tokens]  # the tokens of a name of some kind, or of "any"


def read_grammar() -> Grammar:
    """The templates and word lists beside this file."""
    grammar: Grammar = {}
    for line in Path(__file__).with_name("sample_grammar.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = grammar.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            section.append(line)
    return grammar


def make_names(grammar: Grammar, seed: int) -> Names:
    """NAMES_PER_KIND invented names of each kind, from one grammar and dealt at random."""
    rng = random.Random(f"{seed} names")
    names: dict[str, None] = {}  # a set that keeps its order
    while len(names) < len(KINDS) * NAMES_PER_KIND:
        stem = "".join(rng.choices(grammar["name syllables"], k=rng.choice((2, 2, 3))))
        names[stem + rng.choice(grammar["name endings"])] = None
    deck = rng.sample(list(names), len(names))
    return {kind: deck[i * NAMES_PER_KIND : (i + 1) * NAMES_PER_KIND] for i, kind in enumerate(KINDS)}


def fill(template: str, grammar: Grammar, rng: random.Random, mention: Mention) -> Tokens:
    """The words and tags of one sentence made from a template."""
    tokens: Tokens = []
    for word in template.split():
        slot = re.fullmatch(r"\{(\w+)\}", word)
        if slot is None:
            tokens.append((word, "O"))
        elif slot.group(1) in (*KINDS, "any"):
            tokens.extend(mention(slot.group(1)))
        else:
            tokens.extend((part, "O") for part in draw(slot.group(1), grammar, rng).split())
    first, tag = tokens[0]
    tokens[0] = (first[0].upper() + first[1:], tag)
    return tokens


def draw(slot: str, grammar: Grammar, rng: random.Random) -> str:
    """The words of a slot that is not a name."""
    if slot == "number":
        return str(rng.randint(2, 99))
    if slot == "percent":
        return f"{rng.randint(1, 60)}.{rng.randint(0, 9)}"
    if slot == "year":
        return str(rng.randint(1985, 2020))
    return rng.choice(grammar[slot])


def make_mention(
    grammar: Grammar, rng: random.Random, pick: Callable[[str], str], kinds: tuple[str, ...], heads: float
) -> Mention:
    """Returns what gives the tokens of a name, of one of `kinds` where any will do: pick(kind), not twice in a
    row, and for a share `heads` of the names a word after it that shows the kind.
    """
    last = ""

    def mention(kind: str) -> Tokens:
        nonlocal last
        kind = rng.choice(kinds) if kind == "any" else kind
        name = next((name for name in (pick(kind) for _ in range(9)) if name != last), last)
        last = name
        words = [name, rng.choice(grammar[f"{kind} heads"])] if rng.random() < heads else [name]
        label = {"chemical": "Chemical", "disease": "Disease"}.get(kind)
        return [(word, f"{'I' if i else 'B'}-{label}" if label else "O") for i, word in enumerate(words)]

    return mention


def join(tokens: Tokens) -> str:
    """A sentence as it is printed."""
    text = " ".join(word for word, _ in tokens)
    return re.sub(r" ([.,:%)])", r"\1", text).replace("( ", "(")


def make_abstract(names: Names, grammar: Grammar, rng: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """A title, and the label and text of each section of an abstract."""
    themes, of_each = ((rng.choice(KINDS),), rng.randint(3, 5)) if rng.random() < THEMED_SHARE else (KINDS, 2)
    weights = [1 / (rank + 15) for rank in range(NAMES_PER_KIND)]  # some names are rarer than others
    topic = {kind: rng.choices(names[kind], weights, k=of_each) for kind in themes}
    mention = make_mention(grammar, rng, lambda kind: rng.choice(topic[kind]), themes, heads=0.1)
    foreign = [f"{{{kind}}}" for kind in KINDS if kind not in themes]

    def templates(section: str) -> list[str]:
        return [line for line in grammar[section] if not any(slot in line for slot in foreign)]

    def sentence(template: str) -> str:
        return join(fill(template, grammar, rng, mention))

    title, sections = sentence(rng.choice(templates("titles"))) + ".", []
    for section, (fewest, most) in SECTIONS.items():
        chosen = rng.sample(templates(section), rng.randint(fewest, most))
        chosen += rng.sample(grammar["open"], rng.random() < 0.75)
        chosen += rng.sample(grammar["plain"], rng.random() < 0.1)
        chosen = [("{opening} " if rng.random() < 0.1 else "") + template for template in chosen]
        sections.append((section.upper(), " ".join(map(sentence, chosen))))
    return title, sections


def mark_up(text: str) -> str:
    """Text as the content of an XML element."""
    text = escape(text)
    for plain, marked in MARKUP:
        text = text.replace(plain, marked)
    return text


def make_record(pmid: int, names: Names, grammar: Grammar, rng: random.Random) -> str:
    """One PubmedArticle element."""
    title, sections = make_abstract(names, grammar, rng)
    if rng.random() < 0.5:
        abstract = "\n".join(
            f'<AbstractText Label="{label}" NlmCategory="{label}">{mark_up(text)}</AbstractText>'
            for label, text in sections
        )
    else:
        abstract = f"<AbstractText>{mark_up(' '.join(text for _, text in sections))}</AbstractText>"
    if rng.random() < 0.1:
        abstract += "\n<CopyrightInformation>Copyright of nobody: this is made up.</CopyrightInformation>"
    abstract = f"<Abstract>\n{abstract}\n</Abstract>\n"
    if (pmid - FIRST_PMID) % RECORDS_PER_FILE == 0:
        abstract = ""  # as many of PubMed's records have none
    surnames = rng.sample(grammar["surnames"], 3)
    authors = "".join(f"<Author><LastName>{surname}</LastName></Author>\n" for surname in surnames)
    return f"""<PubmedArticle>
<MedlineCitation Status="MEDLINE" Owner="NLM">
<PMID Version="1">{pmid}</PMID>
<Article PubModel="Print">
<Journal>
<JournalIssue CitedMedium="Print"><PubDate><Year>{rng.randint(1990, 2025)}</Year></PubDate></JournalIssue>
<Title>Journal of made-up medicine</Title>
</Journal>
<ArticleTitle>{mark_up(title)}</ArticleTitle>
{abstract}<AuthorList CompleteYN="Y">
{authors}</AuthorList>
<Language>eng</Language><PublicationTypeList><PublicationType>Journal Article</PublicationType></PublicationTypeList>
</Article>
</MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList></PubmedData>
</PubmedArticle>
"""


def write_corpus(folder: Path, grammar: Grammar, names: Names, abstracts: int, seed: int) -> list[str]:
    """Writes the XML files into a new folder; returns their names."""
    folder.mkdir()
    files = []
    for start in range(0, abstracts, RECORDS_PER_FILE):
        records = "".join(
            make_record(FIRST_PMID + i, names, grammar, random.Random(f"{seed} abstract {i}"))
            for i in range(start, min(start + RECORDS_PER_FILE, abstracts))
        )
        text = f"{XML_OPENING}<PubmedArticleSet>\n{records}</PubmedArticleSet>\n"
        files.append(f"madeup26n{len(files) + 1:04}.xml.gz")
        (folder / files[-1]).write_bytes(gzip.compress(text.encode(), mtime=0))
    return files


def split_names(names: Names, seed: int) -> dict[str, Names]:
    """The names of each split of the benchmark; no name is in two splits."""
    decks = {kind: random.Random(f"{seed} {kind}").sample(some, NAMES_PER_KIND) for kind, some in names.items()}
    return {split: {kind: deck[part] for kind, deck in decks.items()} for split, part in SPLITS.items()}


def benchmark_sentences(splits: dict[str, Names], grammar: Grammar, split: str, seed: int) -> list[Tokens]:
    """The sentences of a split. One name in eight of devel and test is one of train's."""
    rng = random.Random(f"{seed} benchmark {split}")

    def pick(kind: str) -> str:
        return rng.choice(splits["train" if rng.random() < 1 / 8 else split][kind])

    mention = make_mention(grammar, rng, pick, KINDS, heads=0.05)
    typed = [template for section in SECTIONS for template in grammar[section]]
    sentences = []
    for _ in range(SENTENCES_PER_SPLIT[split]):
        templates = rng.choices((grammar["open"], typed, grammar["plain"]), (0.9, 0.05, 0.05))[0]
        sentences.append(fill(rng.choice(templates), grammar, rng, mention))
    return sentences


def write_benchmark(folder: Path, grammar: Grammar, names: Names, seed: int) -> dict[str, int]:
    """Writes {train,devel,test}.tsv into a new folder; returns the number of sentences of each."""
    folder.mkdir()
    splits = split_names(names, seed)
    for split in splits:
        sentences = benchmark_sentences(splits, grammar, split, seed)
        lines = ["".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dict(SENTENCES_PER_SPLIT)


def write_sample_data(output: Path, abstracts: int, seed: int) -> dict:
    """Makes everything in a folder beside `output` and renames it; returns the manifest.

    Raises ValueError where `output` holds something that this program did not make.
    """
    if abstracts < 1:
        raise ValueError(f"--abstracts is {abstracts}; give 1 or more")
    manifest_path = output / "manifest.json"
    ours = manifest_path.is_file() and '"stage": "sample_data"' in manifest_path.read_text(encoding="utf-8")
    if output.exists() and not ours and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output} holds something else; give a new folder")
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    grammar = read_grammar()
    names = make_names(grammar, seed)
    manifest = {
        "stage": "sample_data",
        "note": "Made up by launch/sample_data.py; nothing in it is real.",
        "options": {"abstracts": abstracts, "seed": seed},
        "pubmed": write_corpus(partial / "pubmed", grammar, names, abstracts, seed),
        "benchmark": write_benchmark(partial / "benchmark", grammar, names, seed),
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in partial.rglob("*.*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if ours:
        shutil.rmtree(output)
    os.rename(partial, output)
    return manifest


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="Folder to write; ours are replaced.")
    parser.add_argument("--abstracts", type=int, default=3000, help="PubMed records to make (default: 3000).")
    parser.add_argument("--seed", type=int, default=1, help="Another gives other names (default: 1).")
    options = parser.parse_args()
    try:
        manifest = write_sample_data(options.output, options.abstracts, options.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{options.output}: {options.abstracts} made-up records in {len(manifest['pubmed'])} files, and a "
        f"benchmark of {sum(manifest['benchmark'].values())} sentences"
    )


if __name__ == "__main__":
    main()
