"""Small relation benchmarks in the community's formats, written by hand; tests/finetuning/text_samples.py runs them."""

import json
from argparse import Namespace
from pathlib import Path
from xml.sax.saxutils import quoteattr

from finetuning.relation_files import wanted_splits
from finetuning.relation_inputs import Distribution
from finetuning.splits import recognise

SPLITS = ("train", "dev", "test")

# (sentence as BLUE and BLURB have it, class): all six, an overlap, two labels of one pair, quotes that are text
CHEMPROT = [
    ('"@CHEMICAL$ reverses high @GENE$ pressure', "CPR:4"),
    ("@CHEM-GENE$ caused liver failure", "CPR:3"),
    ("no change was seen with @CHEMICAL$ and @GENE$", "false"),
    ("@GENE$ improved with @CHEMICAL$", "CPR:9"),
    ("@GENE$ improved with @CHEMICAL$", "CPR:5"),
    ("patients with @GENE$ were treated with @CHEMICAL$", "CPR:6"),
]
NUMBERS = ["0", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"]
DDI = [
    ("@DRUG$ reverses @DRUG$", "effect"),
    ("@DRUG$ and @DRUG$ were seen", "false"),
    ("patients were treated with @DRUG-DRUG$", "mechanism"),
    ("no @DRUG$ with @DRUG$", "advise"),
    ("@DRUG$ with @DRUG$", "int"),
]
ASSOCIATIONS = [
    ("@GENE$ caused @DISEASE$", "1"),
    ("@DISEASE$ was seen with @GENE$", "1"),
    ("no @DISEASE$ was seen with @GENE$", "0"),
    ("@GENE$ improved the patients with @DISEASE$", "0"),
]

# PMID -> title, abstract, mentions (kind, text, which of its occurrences from 0), relations (class, mention, mention)
ABSTRACTS = {
    "101": (
        "Naloxone reverses blood pressure.",
        "Cocaine caused renin failure (37 degrees C. and i.v.). Naloxone and renin were seen.",
        [("CHEMICAL", "Naloxone", 0), ("CHEMICAL", "Cocaine", 0), ("GENE-Y", "renin", 0), ("CHEMICAL", "Naloxone", 1),
         ("GENE-N", "renin", 1)],
        [("CPR:4", 1, 2), ("CPR:2", 3, 4), ("CPR:3", 0, 2)],
    ),
    "102": (
        "Lithium carbonate kinase",
        "Lithium of E. coli inhibits the kinase. No change.",
        [("CHEMICAL", "Lithium carbonate", 0), ("GENE-Y", "carbonate kinase", 0), ("CHEMICAL", "Lithium", 1),
         ("GENE-Y", "kinase", 1)],
        [("CPR:9", 0, 1), ("CPR:5", 2, 3), ("CPR:6", 2, 3)],
    ),
}  # fmt: skip


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files of these names and contents, folders made where needed."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())  # line ends as given
    return folder


def blue(rows=CHEMPROT, prefix="101.T1.T", negative="false", end="\n") -> str:
    """BLUE's form: a header, an index, labels with DDI- before them where `negative` has it."""
    texts = [text for text, _ in rows]  # rows of one text are one pair with several labels
    before = negative.removesuffix("false")
    lines = [f"{prefix}{texts.index(text)}\t{text}\t{before}{label}" for text, label in rows]
    return end.join(["index\tsentence\tlabel", *lines, ""])


def blurb(rows=CHEMPROT) -> str:
    """SciFive's form of BLURB: the class as a number, no line end after the last line."""
    numbers = {name: str(i) for i, name in enumerate(NUMBERS)} | {"false": "0"}
    return "\n".join(f"{text}\t{numbers.get(label, label)}" for text, label in rows)


def blurb_files(rows=CHEMPROT) -> dict[str, str]:
    """Three splits and label2id.tsv."""
    files = {f"{split}_blurb.tsv": blurb(rows) for split in SPLITS}
    return files | {"label2id.tsv": "\n".join(f"{name}\t{i}" for i, name in enumerate(NUMBERS))}


def bio_electra() -> str:
    """Header, CRLF, other placeholders, of which one alone means an overlap; negatives are False."""
    rows = [
        (text.replace("@CHEMICAL$", "BC6ENTC").replace("@CHEM-GENE$", "BC6ENTG").replace("@GENE$", "BC6ENTG"), label)
        for text, label in CHEMPROT
    ]
    return "sentence\tlabel\r\n" + "".join(f"{text}\t{label.replace('false', 'False')}\r\n" for text, label in rows)


def scibert() -> str:
    """JSON lines with both arguments in brackets, in either order."""
    rows = [
        ("[[ naloxone ]] reverses << renin >>.", "INHIBITOR"),
        ("<< renin >> was seen with high [[ lithium carbonate ]] (<5)", "SUBSTRATE"),
        ("<< renin >>-induced [[ cocaine ]] improved", "AGONIST"),
    ]
    return "".join(json.dumps({"text": text, "label": label, "metadata": []}) + "\n" for text, label in rows)


def folds(rows=ASSOCIATIONS, dev="") -> dict[str, str]:
    """BioBERT's ten folds: train without header, test with one, dev empty."""
    train = "".join(f"{text}\t{label}\n" for text, label in rows)
    test = "index\tsentence\tlabel\n" + "".join(f"{i}\t{text}\t{label}\n" for i, (text, label) in enumerate(rows))
    return {
        f"{fold}/{name}": text
        for fold in range(1, 11)
        for name, text in {"train.tsv": train, "test.tsv": test, "dev.tsv": dev}.items()
    }


def chemprot_lines(abstracts=ABSTRACTS) -> dict[str, list[str]]:
    """Lines of the abstracts, entities and relations files, offsets found in the text."""
    lines = {"abstracts": [], "entities": [], "relations": []}
    for pmid, (title, abstract, mentions, relations) in abstracts.items():
        lines["abstracts"].append(f"{pmid}\t{title}\t{abstract}")
        text = f"{title}\t{abstract}"
        for i, (kind, mention, occurrence) in enumerate(mentions):
            start = -1
            for _ in range(occurrence + 1):
                start = text.index(mention, start + 1)
            lines["entities"].append(f"{pmid}\tT{i}\t{kind}\t{start}\t{start + len(mention)}\t{mention}")
        for label, first, second in relations:
            lines["relations"].append(f"{pmid}\t{label}\tY \tKIND\tArg1:T{first}\tArg2:T{second}")
    return lines


def original_chemprot(splits=("training", "development", "test")) -> dict[str, str]:
    """BioCreative's files of each split, in their folders, `_gs` in the names of the test split's."""
    files = {}
    for split in splits:
        end = "_gs" if split == "test" else ""
        for kind, lines in chemprot_lines().items():
            files[f"chemprot_{split}{end}/chemprot_{split}_{kind}{end}.tsv"] = "".join(f"{line}\n" for line in lines)
    return files


# sentences: text, mentions (id, charOffset, text), pairs (entity, entity, type or "" for none or None for untyped)
DOCUMENTS = {
    "DrugBank.d7": [
        (
            "cocaine reverses naloxone.",
            [("e0", "0-6", "cocaine"), ("e1", "17-24", "naloxone")],
            [("e0", "e1", "effect")],
        ),
        ("the patients improved.", [], []),
    ],
    "DrugBank.d9": [
        (
            "lithium or high carbonate\nwith cocaine was seen & improved",
            [("e0", "0-6", "lithium"), ("e1", "11-14;16-24", "high carbonate"), ("e2", "31-37", "cocaine")],
            [("e0", "e1", ""), ("e2", "e0", "mechanism"), ("e1", "e2", "int")],
        ),
        ("lithium cocaine", [("e0", "0-6", "lithium"), ("e1", "8-14", "cocaine")], [("e0", "e1", None)]),
    ],
    "MedLine.d3": [
        (
            "no lithium carbonate",
            [("e0", "3-9", "lithium"), ("e1", "3-19", "lithium carbonate")],
            [("e0", "e1", "advise")],
        )
    ],
}


def ddi_xml(name: str, sentences) -> str:
    """One document of the corpus."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<document id="DDI-{name}">']
    for i, (text, mentions, pairs) in enumerate(sentences):
        sentence = f"DDI-{name}.s{i}"
        # a line break in an attribute has to be written as a reference to stay one
        lines.append(f'<sentence id="{sentence}" text={quoteattr(text)}>')
        for entity, offsets, mention in mentions:
            lines.append(
                f'<entity id="{sentence}.{entity}" charOffset="{offsets}" type="drug" text={quoteattr(mention)}/>'
            )
        for k, (first, second, kind) in enumerate(pairs):
            answer = 'ddi="false"' if kind == "" else 'ddi="true"' + (f' type="{kind}"' if kind else "")
            lines.append(f'<pair id="{sentence}.p{k}" e1="{sentence}.{first}" e2="{sentence}.{second}" {answer}/>')
        lines.append("</sentence>")
    return "\n".join([*lines, "</document>", ""])


def ddi_corpus(documents=DOCUMENTS) -> dict[str, str]:
    """The folders of DDICorpus, with the other task's test set and a file that macOS leaves in archives."""
    files = {}
    for name, sentences in documents.items():
        for folder in ("Train", "Test/Test for DDI Extraction task"):
            files[f"DDICorpus/{folder}/{name.partition('.')[0]}/{name}.xml"] = ddi_xml(name, sentences)
    other = ddi_xml("DrugBank.d8", [("a b", [("e0", "0-0", "a"), ("e1", "2-2", "b")], [("e0", "e1", "")])])
    files["DDICorpus/Test/Test for DrugNER task/DrugBank/other.xml"] = other
    files["DDICorpus/Train/DrugBank/._DrugBank.d7.xml"] = "\x00\x05\x16"
    return files


FLAGS = {"input": None, "head": "cls", "split_placeholders": False, "protocol": "blurb"}  # as by default


def options_of(data: Path, **more) -> Namespace:
    """What the readers look at, as the command line gives it."""
    return Namespace(**{"data": data, "nonstandard_split": False, "train_split": None, **FLAGS, **more})


def variant_of(module, data: Path, **more) -> tuple[str, bool, Distribution]:
    """Name of the variant that the files are, whether it is a published one, and what was read."""
    options = options_of(data, **more)
    read = module.BENCHMARK.prepare.keywords["read"](options, wanted_splits(options.train_split))
    variant = recognise(module.BENCHMARK, read.found, data, options.nonstandard_split, read.name)
    return variant.name, variant.standard, read
