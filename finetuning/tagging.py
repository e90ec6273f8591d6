"""Entity recognition and other tagging of words: from files to a Task, to scores, and to spans in new text.

Shared by the entity benchmarks and EBM-NLP; run one of those, for example `python -m finetuning.bc5cdr`. The steps are

1. read the files (finetuning.entity_files) and check their sizes against the published ones;
2. turn the sentences into inputs, long ones into windows that overlap (finetuning.tagging_inputs);
3. one linear layer on the first word piece of each word, a softmax over the tags (reference ELECTRA does the
   same): IOB2 tags, or bare classes where words are scored and not entities;
4. join the windows, read the predicted tags as conlleval does (an I that follows no entity starts one), and
   score them (finetuning.entity_scores).
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PretrainedConfig, PreTrainedTokenizerBase

from finetuning import encoder, entity_files, entity_scores
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_files import COUNTS
from finetuning.entity_scores import ENTITY_F1, TOKEN_F1
from finetuning.loop import Batch, Feature, Task, choose_device, predict
from finetuning.ranks import say
from finetuning.result_files import read_json
from finetuning.results import write_json
from finetuning.splits import Benchmark, Sizes, Variant, recognise
from finetuning.tagging_inputs import Cutting, collate, make_features, word_pieces
from finetuning.tags import SCHEMES, UNTYPED, iob2_tags, iob_spans
from finetuning.text_heads import reset_linear
from finetuning.words import sentence_places, word_places

TEXTS_AT_ONCE = 256  # of new text: enough to sort by length


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Tag logits of the first word piece of each own word, [rows, labels]."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits.flatten(0, 1)[batch["rows"]]


def model_functions(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The parts of a Task that run the model, which prediction on new text needs as well."""
    return {
        "collate": partial(collate, padding=tokenizer.pad_token_id),
        "forward": forward,
        "rows": lambda feature: len(feature["rows"]),
    }


def predicted_tags(
    features: list[Feature], outputs: list[np.ndarray], labels: list[str], count: int
) -> list[list[str]]:
    """The IOB2 tags of each of `count` sentences: windows joined, tags read as conlleval reads them."""
    sentences: list[list[str]] = [[] for _ in range(count)]
    for feature, logits in zip(features, outputs, strict=True):
        sentences[feature["sentence"]] += [labels[i] for i in logits.argmax(axis=-1)]
    return [iob2_tags(iob_spans(tags), len(tags)) for tags in sentences]


def cutting_of(
    settings: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, max_length: int, overlap: int
) -> Cutting:
    """Special ids and sizes of the inputs of a model."""
    capacity = min(max_length, encoder.longest_input(settings)) - 2
    return Cutting(tokenizer.cls_token_id, tokenizer.sep_token_id, capacity, min(overlap, capacity // 2))


def make_network(model: str, labels: list[str], config: FinetuneConfig) -> nn.Module:
    """The encoder `model` under a linear layer on its word pieces, a new one but after a stage of the same labels."""
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    before = encoder.load_config(model)
    network = encoder.load_model(AutoModelForTokenClassification, model, config.encoder_dropout, **names)
    # Transformers takes over the layer of any stage before with as many labels, such as those of another type.
    staged = any(name.endswith("ForTokenClassification") for name in before.architectures or ())
    if staged and list(before.id2label.values()) != labels:
        for child in network.children():
            if isinstance(child, nn.Linear) and child.out_features == len(labels):
                reset_linear(child, network.config)
    for child in network.children():  # the architectures' settings for this one go by different names
        if isinstance(child, nn.Dropout):
            child.p = config.dropout
    return network


def tagging_task(
    files: dict[str, TaggedFile],
    model: str,
    config: FinetuneConfig,
    benchmark: str = "",
    token_level: bool = False,
    learned: tuple[str, ...] = ("train",),
) -> Task:
    """The Task of tagging these splits (IOB2) with the encoder `model`, a folder or a hub name.

    The labels are those of the splits `learned`. With `token_level` they are the bare classes, and the metric is the
    macro-F1 over words.
    """
    settings = encoder.load_config(model)
    tokenizer = encoder.load_tokenizer(model, settings)
    types = entity_files.learned_types(files, learned)
    labels = ["O", *(f"{prefix}-{name}" for name in types for prefix in ("I" if token_level else "BI"))]
    label_ids = {label: i for i, label in enumerate(labels)}
    if token_level:
        label_ids |= {f"B-{name}": label_ids[f"I-{name}"] for name in types}
    pieces = word_pieces(tokenizer, (word for file in files.values() for one in file.sentences for word in one.words))
    cutting = cutting_of(settings, tokenizer, config.max_length, config.overlap)
    features = {split: make_features(file.sentences, pieces, label_ids, cutting) for split, file in files.items()}
    metric = TOKEN_F1 if token_level else ENTITY_F1

    def tags_of(split: str, outputs: list[np.ndarray]) -> list[list[str]]:
        return predicted_tags(features[split], outputs, labels, len(files[split].sentences))

    def save(network: nn.Module, folder: Path) -> None:
        with encoder.quiet_transformers():
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        sizes = {"max_length": cutting.capacity + 2, "overlap": cutting.overlap}
        record = {"family": "tagging", "benchmark": benchmark, "labels": labels, "metric": metric, **sizes}
        write_json(folder / "task.json", record)

    def write_predictions(outputs: list[np.ndarray], path: Path) -> None:
        if files["test"].texts:
            entity_scores.write_spans(files["test"], tags_of("test", outputs), path)
        else:
            entity_scores.write_tags(files["test"].sentences, tags_of("test", outputs), path)

    return Task(
        features=features,
        make_model=lambda: make_network(model, labels, config),
        **model_functions(tokenizer),
        loss=lambda logits, batch: F.cross_entropy(logits, batch["labels"], reduction="sum"),
        score=lambda split, outputs: entity_scores.score_tags(
            files[split], tags_of(split, outputs), types if token_level else None
        ),
        metric=metric,
        save=save,
        write_predictions=write_predictions,
        predictions_suffix="pubtator.txt" if files["test"].texts else "tsv",
    )


def comparable(found: Sizes, variant: Variant) -> Sizes:
    """What `variant` knows of its sizes, and every type if it knows any: a file with one type more is another."""
    types = set(variant.sizes) - set(COUNTS)
    return {name: sizes for name, sizes in found.items() if name in variant.sizes or (types and name not in COUNTS)}


def shown_sizes(benchmark: Benchmark, found: Sizes, texts: bool) -> Sizes:
    """What to show of sizes that are no variant's: as the one of the same form that counts most of them does."""
    alike = [one for one in benchmark.variants if set(comparable(found, one)) == set(one.sizes)]
    if alike:
        alike.sort(key=lambda one: (("documents" in one.sizes) != texts, -len(one.sizes)))
        return comparable(found, alike[0])
    return {name: sizes for name, sizes in found.items() if name not in COUNTS or not benchmark.variants}


def own_name(benchmark: Benchmark, found: Sizes, folder: Path) -> str:
    """What a data set that is no published variant is called: by its types, or by its folder."""
    types = [name for name in found if name not in COUNTS]
    if not benchmark.variants:
        return f"{benchmark.name} {folder.resolve().name}"
    if types == [UNTYPED]:
        return f"{benchmark.name} untyped"
    return f"{benchmark.name} {'+'.join(types).lower() if len(types) < 4 else f'{len(types)} types'}"


def read_variant(benchmark: Benchmark, options: Namespace) -> tuple[dict[str, TaggedFile], Variant]:
    """The files of --data, checked against the published sizes, with the variant's names of the types.

    The variant's `rename` then has all types that have another name than in the files.
    """
    files = entity_files.read_splits(options.data, options.tag_scheme, options.train_split)
    merged = {name: UNTYPED for file in files.values() for name in file.entity_counts() if options.merge_types}
    entity_files.rename_types(files, merged)
    found = entity_files.sizes(files)
    variant = next((one for one in benchmark.variants if comparable(found, one) == one.sizes), None)
    if variant is None:
        shown = shown_sizes(benchmark, found, texts=files["train"].form != "CoNLL")
        entity_files.rename_types(files, entity_files.own_types(benchmark))
        name = own_name(benchmark, entity_files.sizes(files), options.data)
        variant = recognise(benchmark, shown, options.data, options.nonstandard_split, name)
        variant = replace(variant, rename=entity_files.own_types(benchmark))
    for file in files.values():
        if not any(file.entity_counts().values()):
            raise ValueError(f"{file.path} has no entity: there is nothing to learn or to score")
    rename = variant.rename or {}
    entity_files.rename_types(files, rename)
    return files, replace(variant, rename={**rename, **{name: rename.get(kind, kind) for name, kind in merged.items()}})


def add_flags(parser: ArgumentParser) -> None:
    """The flags that only entity benchmarks have."""
    parser.add_argument(
        "--tag-scheme",
        choices=SCHEMES,
        help="Scheme of the tags; only needed where the files do not show it, which is then said.",
    )
    parser.add_argument(
        "--merge-types",
        action="store_true",
        help="Take all entities as of one type, as BLURB does with JNLPBA's five.",
    )


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig, token_level: bool = False) -> Prepared:
    """Read, check and turn into inputs as the flags say."""
    files, variant = read_variant(benchmark, options)
    learned = ("train", "dev") if options.train_on_dev else ("train",)
    entity_files.note_unknown_types(files, learned)
    for split, file in files.items():
        for note in file.notes:
            say(f"{split} ({file.path.name}): {note}")
    task = tagging_task(files, options.model, config, benchmark.name, token_level, learned)
    return Prepared(
        variant=variant,
        tasks=[task],
        metric=task.metric,
        split={split: entity_files.record(file) for split, file in files.items()},
        texts={split: entity_files.texts(file) for split, file in files.items()},
    )


def score_file(benchmark: Benchmark, options: Namespace, token_level: bool = False) -> dict[str, Any]:
    """Scores of --predictions on --split of --data; see finetuning.entity_scores for the forms it may have.

    Where there is no train split, dev stands for it, as in the training whose predictions these may be.
    """
    if options.data.is_dir() and entity_files.find_split(options.data, "train") is None:
        options.train_split = "dev"
    files, variant = read_variant(benchmark, options)
    if options.train_split == "dev":
        files["dev"] = files["train"]
    if options.split not in files:
        raise ValueError(f"--split {options.split}: {options.data} has only {', '.join(files)}")
    gold, rename = files[options.split], variant.rename
    if gold.texts:
        found = entity_scores.read_spans(options.predictions, gold, rename)
        entity_scores.check_types({key[-1] for key in found}, files.values(), options.predictions)
        return entity_scores.entity_scores(entity_scores.span_keys(gold), found)
    classes = sorted(files["train"].entity_counts()) if token_level else None
    tags = entity_scores.read_tags(options.predictions, gold, rename)
    entity_scores.check_types({tag[2:] for one in tags for tag in one} - {""}, files.values(), options.predictions)
    return entity_scores.score_tags(gold, tags, classes)


def predict_texts(folder: Path, records: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Each record ({"text": ...} and what else there is) with its "entities": start, end, type, text.

    Offsets are characters of the text. Texts are cut as PubTator files are (finetuning.words), long sentences into
    windows. `folder` is the `model` folder of a finetuning run.
    """
    settings, record = encoder.load_config(str(folder)), read_json(folder / "task.json")
    tokenizer = encoder.load_tokenizer(str(folder), settings)
    model = encoder.load_model(AutoModelForTokenClassification, str(folder), whole=True).to(choose_device())
    cutting = cutting_of(settings, tokenizer, record["max_length"], record["overlap"])
    functions, config = SimpleNamespace(**model_functions(tokenizer)), FinetuneConfig(batch_size=batch_size)
    records = iter(records)
    while some := list(islice(records, TEXTS_AT_ONCE)):
        sentences = [sentence for i, one in enumerate(some) for sentence in untagged(one["text"], i)]
        pieces = word_pieces(tokenizer, (word for sentence in sentences for word in sentence.words))
        features = make_features(sentences, pieces, {}, cutting)
        outputs = predict(model, functions, features, config, batch_size)
        entities: list[list[dict[str, Any]]] = [[] for _ in some]
        tags = predicted_tags(features, outputs, record["labels"], len(sentences))
        for sentence, found in zip(sentences, tags, strict=True):
            for first, end, kind in iob_spans(found):
                start, stop = sentence.offsets[first][0], sentence.offsets[end - 1][1]
                text = some[sentence.document]["text"][start:stop]
                entities[sentence.document].append({"start": start, "end": stop, "type": kind, "text": text})
        for one, found in zip(some, entities, strict=True):
            yield {**one, "entities": found}


def untagged(text: str, document: int) -> list[Sentence]:
    """The sentences of new text."""
    found = []
    for i, place in enumerate(sentence_places(text)):
        places = word_places(text, *place)
        words = [text[start:end] for start, end in places]
        found.append(Sentence(words, ["O"] * len(words), i, document, places))
    return found
