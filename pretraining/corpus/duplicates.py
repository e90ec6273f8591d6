"""De-duplication with datatrove: equal texts, equal PMIDs, nearly equal texts; there is no command here.

Steps: for each kind in KINDS that is asked for, `find` writes signatures (a task a shard) and finds the duplicates in
them; `filters` gives the pipeline steps that leave them out. A later kind looks at what the earlier ones left.

Of equal texts or PMIDs the document of the first --input stays. Near duplicates are datatrove's MinHash with its
settings: 5-grams of words, 14 bands of 8 hashes, so that documents which share 80 % of their 5-grams are found in
92 % of cases; of a cluster one stays, the same one on any machine.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import (
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig
from datatrove.pipeline.dedup.minhash import MinhashConfig

from pretraining.corpus.stages import Run
from pretraining.corpus.steps import HASH, INPUT, BlankTokenizer, ReadInput, RemovedWriter

KINDS = ("pmid", "exact", "near")
HIGHEST_PRIORITY = 65535  # datatrove keeps priorities in 16 bits


def get_pmid(document: Document) -> str:
    """The PMID, or where there is none the input and id, which nothing else has."""
    return document.metadata.get("pmid") or f"{document.metadata[INPUT]} {document.id}"


def get_text(document: Document) -> str:
    """The text without regard to case and white space."""
    return " ".join(document.text.casefold().split())


def get_priority(document: Document) -> int:
    """The first --input is kept."""
    return max(HIGHEST_PRIORITY - document.metadata[INPUT], 1)


def find(kind: str, earlier: tuple[str, ...], shards: list[tuple[str, int]], stage: Run) -> None:
    """Find the duplicates of one kind among what the earlier kinds leave of the shards."""
    work = stage.work
    signatures, found = work / f"{kind}-signatures", work / f"{kind}-found"
    before: list[PipelineStep] = [ReadInput(shards), *filters(earlier, work, None)]

    def run(name: str, pipeline: list[PipelineStep], tasks: int) -> None:
        stage.tasks(f"{kind}-{name}", pipeline, tasks, unit="task")

    if kind == "near":
        config = MinhashConfig(hash_config=HASH)
        run("signatures", [*before, MinhashDedupSignature(str(signatures), config, BlankTokenizer())], len(shards))
        buckets = work / "near-buckets"
        pairs = MinhashDedupBuckets(str(signatures), str(buckets), config=config)
        run("buckets", [pairs], config.num_buckets)
        run("clusters", [MinhashDedupCluster(str(buckets), str(found), config=config)], 1)
    else:
        config = _exact(kind)
        run("signatures", [*before, ExactDedupSignature(str(signatures), config)], len(shards))
        run("found", [ExactFindDedups(str(signatures), str(found), config)], 1)


def filters(kinds: Iterable[str], work: Path, removed: Path | None) -> list[PipelineStep]:
    """Steps that leave out the duplicates found; they go below `removed` where that is given."""
    steps: list[PipelineStep] = []
    for kind in kinds:
        writer = RemovedWriter(removed / kind, f"duplicate_{kind}") if removed else None
        if kind == "near":
            step: PipelineStep = MinhashDedupFilter(str(work / "near-found"), writer)
        else:
            step = ExactDedupFilter(str(work / f"{kind}-found"), _exact(kind), writer)
        step.stats.name = f"duplicate_{kind}"  # under which its counts are found
        steps.append(step)
    return steps


def _exact(kind: str) -> ExactDedupConfig:
    getter: Callable[[Document], str] = get_pmid if kind == "pmid" else get_text
    return ExactDedupConfig(getter, get_priority, HASH)
