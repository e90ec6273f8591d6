"""The sentence stage: its rules on biomedical prose, and what it does with a folder of documents."""

import lzma
import random
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from pretraining.corpus.documents import Document, read_documents, read_manifest, write_shard, writing_stage
from pretraining.corpus.sentences import convert, split_paragraph

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not here")

# `|` marks the boundaries
EXAMPLES = [
    "",
    "No full stop",
    "One. |Two? |Three! |Four.",
    "The rate was 3.5 (p < 0.05). |It fell to .7 in 12 of 40 rats (30%). |None died.",
    "Growth of E. coli and S. aureus, but not of P. falciparum, was seen (Fig. 2). |We repeated it.",
    "As shown in Fig. 3 and Eq. (4), cf. Ref. 7, the effect, i.e. the mean vs. the control, was large, e.g. "
    "in No. 5. |It held.",
    "Smith et al. reported it. |Dr. Jones and J. F. Smith did not.",
    "Given 5 mg/kg i.v. and 3 mg p.o. b.i.d. for days. |Then approx. 5 ml. |Then none.",
    "It is activated by NF-kappa B. |LPS is not. |It was held at 37 degrees C. |Then protein "
    "kinase C. |A difference was seen.",
    "Levels rose within 24 h. |These held for 60 min. |Gads was cleaved at 10(-8) M. |Steroids were not.",
    "p53 was lost. |mRNA levels fell. |c-Myc rose. |alpha-Tocopherol fell. |gp34 is one. |5-HT was low.",
    "BACKGROUND: It is unknown. |METHODS: We did it.",
    "(It was so.) |Then it was not. |[It was cited.] |“So they said.” |Others did not.",
    "We show the following. |(i) Expression of LMP1 rose. |(ii) Expression of EBNA fell.",
    "As in J. Biol. Chem. 275, 6894-6900 and Blood. 2001;98:823-829, it held (Exp. Cell. Res. 244, 302-309).",
    "Reported by Miller et al. (1998) in the U.S. and elsewhere.",
    "It was significant (P < 0. 01) in all.",
    "Blank missing.Then it goes on. |Not in protein.DNA complexes, nor in P.aeruginosa or example.Com/x.",
    "He saw it ... and went. |What?! |Yes.",
    # p values, abbreviations, figures, decimal numbers, species, genes, references, doses, units, ends of one letter
    "The groups differed at p < 0.05. |No other did (P = .03). |Nor at p<.001.",
    "Survival was better (p < 0.05). |In contrast, it was not. |HR was 1.5 (95% CI 1.1-2.0; p = 0.01). |The end.",
    "Two drugs, e.g. aspirin and e.g., ibuprofen, i.e., NSAIDs, were used. |E.g., aspirin was.",
    "See Fig. 2. |See Figs. 2 and 3, Fig. 2A, fig. S1 and Table 2. |Then Suppl. Fig. 3 of Ref. 12.",
    "It rose from 1.5 to 2.75 mg/dL, by 0.5. |At pH 7.4, 37.5 degrees C. |It fell.",
    "E. coli grew. |S. cerevisiae did not. |Of C. elegans, D. melanogaster and M. tuberculosis H37Rv, none did.",
    "Infection with E. coli O157:H7 and S. Typhimurium was rare. |H. pylori was common.",
    "Mutations in BRCA1 and TP53 were found. |p53 and mTOR were not. |EGFR, c-MET and HER2. |miR-21 rose.",
    "The gene encodes Bcl-2. |IL-6 and TNF-alpha rose. |It binds NF-kappaB. |Rel A does not.",
    "Smith et al. found it in vitro. |Jones et al. (2001) did not, cf. Dr. Lee vs. Mr. Doe.",
    "Given at 10 mg/kg i.p. and 5 mg p.o. daily. |Rats (approx. 200 g) were used. |They ate ad lib. and drank.",
    "The U.S. and the U.K. agreed. |In the U.S.A. it was so.",
    "Streptococcus sp. and Candida spp. were isolated. |Brassica rapa subsp. pekinensis var. glabra was not.",
    "It was 5.3 +/- 0.2 vs. 4.1 +/- 0.3 ng/ml. |N = 12. |The mean was 3.",
    'Was it so? |It was! |(It was not.) |"Yes." |He left.',
    "As noted in No. 3, vol. 2, pp. 5-7, and J. Biol. Chem. 1999, it holds.",
    "The temp. was 4 degrees C. |Cells were kept at -80 degrees C. |After 24 h. they died.",
    "Vitamin D. |Hepatitis B. |Complex I. |Group A. |It ended.",
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_rules(example):
    expected = [sentence.strip() for sentence in example.replace("missing.Then", "missing.|Then").split("|")]
    assert split_paragraph(example.replace("|", "")) == expected


def test_nothing_is_lost_or_changed():
    generator = random.Random(0)
    pool = [
        "a",
        "Bc",
        "E",
        "3",
        "0",
        ".",
        ". ",
        "? ",
        "! ",
        " ",
        "(",
        ")",
        "[",
        "] ",
        '"',
        "’",
        "β",
        "é",
        "-",
        ", ",
    ]
    for _ in range(5000):
        paragraph = " ".join("".join(generator.choices(pool, k=40)).split())
        sentences = split_paragraph(paragraph)
        assert "".join(sentences).replace(" ", "") == paragraph.replace(" ", "")
        assert all(s == s.strip() for s in sentences) and (paragraph == "" or all(sentences))


def test_time_is_linear():
    for hard in ("a. ", "(A. ", "....... ", "word. The ", ")" * 50 + " ", '." ', ". "):
        start = time.perf_counter()
        split_paragraph((hard * 400_000)[:400_000].strip())
        assert time.perf_counter() - start < 10


def stage(folder, documents, sentences=False, per_shard=2):
    with writing_stage(folder, "text", options={}, sentences=sentences) as made:
        for number, start in enumerate(range(0, len(documents), per_shard)):
            made.files.append(write_shard(folder, number, documents[start : start + per_shard]))
    return folder


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.sentences", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_command_and_workers(tmp_path):
    documents = [Document(str(n), f"Title {n}.\nOne. Two.\nThree.", {"pmid": n}) for n in range(9)]
    stage(tmp_path / "in", documents)
    for workers in (1, 3):
        result = command("--input", tmp_path / "in", "--output", tmp_path / str(workers), "--workers", workers)
        assert result.returncode == 0 and result.stderr == ""
    assert tree(tmp_path / "1") == tree(tmp_path / "3")
    assert "sentences: 9 documents in 5 file(s); sentences 36" in result.stdout
    assert list(read_documents(tmp_path / "1")) == [
        Document(d.id, f"Title {d.id}.\nOne.\nTwo.\nThree.", d.metadata) for d in documents
    ]
    manifest = read_manifest(tmp_path / "1")
    assert manifest["sentences"] is True and manifest["counts"] == {"sentences": 36}
    assert manifest["sources"][0]["name"] == "in/manifest.json"


def test_lines_that_are_sentences_stay(tmp_path):
    documents = [Document("1", "One. Still one.\nTwo.", {})]
    convert([stage(tmp_path / "in", documents, sentences=True)], tmp_path / "o")
    assert list(read_documents(tmp_path / "o")) == documents
    assert read_manifest(tmp_path / "o")["counts"] == {"sentences": 2}


def test_bad_input_is_refused(tmp_path):
    folder = stage(tmp_path / "in", [Document("1", "One. Two.", {})])
    (tmp_path / "empty").mkdir()
    for source, output, message in (
        (tmp_path / "none", tmp_path / "o", "none is not a folder"),
        (tmp_path / "empty", tmp_path / "o", "empty has no manifest.json"),
        (folder, folder, "in holds files not made by this stage"),
    ):
        result = command("--input", source, "--output", output)
        assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1
        assert not (tmp_path / "o").exists()
    convert([folder], tmp_path / "o")
    with pytest.raises(ValueError, match="written by this stage already"):
        convert([tmp_path / "o"], tmp_path / "again")
    shard = folder / "documents-00000.jsonl"
    shard.write_bytes(shard.read_bytes()[:-2] + b"x\n")  # the size is right, the content is not
    result = command("--input", folder, "--output", tmp_path / "o")
    assert result.returncode == 1 and "documents-00000.jsonl, line 1" in result.stderr
    assert list((tmp_path / "o").iterdir()) == []
    assert list(read_documents(stage(folder, [Document("2", "x", {})])))[0].id == "2"


# ---- real text ----


def genia_abstracts():
    """Yield (paragraph, ends) of JNLPBA's abstracts, no titles; ends count characters that are not blank."""
    texts = {}
    with tarfile.open(DATA / "ner" / "original_JNLPBA_standoff.tar.xz") as archive:
        for member in archive:
            if member.name.endswith(".txt"):
                text = archive.extractfile(member).read().decode()
                texts[re.sub(r"\s", "", text)] = text
    with tarfile.open(DATA / "ner" / "mtl_JNLPBA.tar.xz") as archive:
        (name,) = (n for n in archive.getnames() if n.endswith("/test.tsv"))
        tokens = archive.extractfile(name).read().decode()
    for abstract in tokens.split("-DOCSTART-\tO\n")[1:]:
        blocks = [block for block in abstract.split("\n\n") if block.strip()]
        sentences = ["".join(line.split("\t")[0] for line in block.strip().split("\n")) for block in blocks]
        sentences = [s.replace("``", '"').replace("''", '"') for s in sentences]
        ends = [sum(map(len, sentences[: n + 1])) for n in range(len(sentences))]
        title, _, rest = texts.get("".join(sentences), "").strip().partition("\n")
        length = len(title.replace(" ", ""))
        if rest and length in ends:
            yield " ".join(rest.split()), {end - length for end in ends if length < end < ends[-1]}


@needs_data
def test_boundaries_of_genia():
    right = false = missed = 0
    for paragraph, theirs in genia_abstracts():
        lengths = [len(s.replace(" ", "")) for s in split_paragraph(paragraph)]
        ours = {sum(lengths[:n]) for n in range(1, len(lengths))}
        right, false, missed = (
            right + len(ours & theirs),
            false + len(ours - theirs),
            missed + len(theirs - ours),
        )
    assert right + missed > 2500
    assert false / (right + false) < 0.003 and missed / (right + missed) < 0.005


@needs_data
def test_real_abstracts_stay_whole():
    with lzma.open(DATA / "pretrain" / "PubMedAbstract_1MB.txt.xz", "rt", encoding="utf-8") as lines:
        paragraphs = [" ".join(line.split()) for line in lines]
    count = 0
    for paragraph in paragraphs:
        sentences = split_paragraph(paragraph)
        count += len(sentences)
        assert "".join(sentences).replace(" ", "") == paragraph.replace(" ", "")
    assert 8 < count / len(paragraphs) < 9.5


def test_several_folders_follow_one_another(tmp_path: Path) -> None:
    first = stage(tmp_path / "one", [Document("1", "A first one. It ends.", {})])
    second = stage(tmp_path / "two", [Document("2", "Kept. As it is.", {})], sentences=True)
    convert([first, second], tmp_path / "o")
    assert [d.text for d in read_documents(tmp_path / "o")] == ["A first one.\nIt ends.", "Kept. As it is."]
    assert len(read_manifest(tmp_path / "o")["sources"]) == 2
