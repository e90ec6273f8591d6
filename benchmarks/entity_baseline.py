"""A plain baseline for the entity benchmarks, scored as finetuned models are: what training text alone says.

    python -m benchmarks.entity_baseline bc5cdr --data DIR [--output FILE] [the benchmark's own flags]

1. Every entity of the train split goes into a dictionary, its words in lower case, with its most frequent type.
2. From left to right, the longest run of words that is in the dictionary is tagged with that type.
3. The tags are scored by finetuning.entity_scores, on dev and test; the scores are printed as JSON.
"""

import argparse
import importlib
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from finetuning import tagging
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_scores import score_tags
from finetuning.tags import Span, iob2_tags, iob_spans

Dictionary = dict[tuple[str, ...], str]  # lower-case words of an entity -> its type


def entity_dictionary(file: TaggedFile) -> Dictionary:
    """All entities of a split, each with its most frequent type; of two as frequent, the first in the alphabet."""
    types: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for sentence in file.sentences:
        words = [word.lower() for word in sentence.words]
        for start, end, kind in iob_spans(sentence.tags):
            types[tuple(words[start:end])][kind] += 1
    return {words: min(counts, key=lambda kind: (-counts[kind], kind)) for words, counts in types.items()}


def find_entities(sentence: Sentence, dictionary: Dictionary, longest: int) -> list[Span]:
    """The longest match at each place, from left to right, none over another; `longest` is the longest entry."""
    words = tuple(word.lower() for word in sentence.words)
    spans, start = [], 0
    while start < len(words):
        for end in range(min(len(words), start + longest), start, -1):
            kind = dictionary.get(words[start:end])
            if kind is not None:
                spans.append((start, end, kind))
                start = end
                break
        else:
            start += 1
    return spans


def tag_by_dictionary(train: TaggedFile, file: TaggedFile) -> list[list[str]]:
    """IOB2 tags of each sentence of `file` from the entities of `train`."""
    dictionary = entity_dictionary(train)
    longest = max(map(len, dictionary))
    return [iob2_tags(find_entities(one, dictionary, longest), len(one.words)) for one in file.sentences]


def score_baseline(benchmark: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Scores of the dictionary on dev (if there is one) and test."""
    files, variant = tagging.read_variant(benchmark, options)
    token_level = getattr(benchmark.prepare, "keywords", {}).get("token_level", False)
    classes = sorted(files["train"].entity_counts()) if token_level else None
    scores = {
        split: score_tags(file, tag_by_dictionary(files["train"], file), classes)
        for split, file in files.items()
        if split != "train"
    }
    return {"variant": variant.name, "nonstandard_split": not variant.standard, "baseline": "dictionary", **scores}


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("benchmark", help="Module of an entity benchmark in finetuning/, such as bc5cdr.")
    parser.add_argument("--data", required=True, type=Path, help="Folder with the benchmark's files.")
    parser.add_argument("--output", type=Path, help="File to write the scores to as well.")
    parser.add_argument("--nonstandard-split", action="store_true", help="Take files of other than published sizes.")
    parser.add_argument("--train-split", metavar="NAME", help="Split that stands for train, where there is none.")
    tagging.add_flags(parser)
    options = parser.parse_args(arguments)
    try:
        module = importlib.import_module(f"finetuning.{options.benchmark}")
        text = json.dumps(score_baseline(module.BENCHMARK, options), indent=1, ensure_ascii=False)
    except (ImportError, AttributeError):
        sys.exit(f"error: finetuning has no entity benchmark {options.benchmark!r}")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
