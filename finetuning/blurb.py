"""The BLURB score of a model: the mean of six family means, over 13 benchmarks. Nothing to run here; finetuning.table
says it below its table.

Citation: Gu et al., "Domain-specific language model pretraining for biomedical natural language processing",
arXiv:2007.15779. Only the variants of FAMILIES count, on their published splits: not, for example, BLUE's ChemProt,
JNLPBA's five types or SciBERT's EBM-NLP; nor a model trained on train and dev.
"""

import statistics

from finetuning.result_files import Results

FAMILIES = {  # family -> the names of its variants, as the benchmark scripts have them
    "entities": ("BC5CDR chemical", "BC5CDR disease", "NCBI-disease", "BC2GM", "JNLPBA (BLURB, one type)"),
    "PICO": ("EBM-NLP (BLURB)",),
    "relations": ("ChemProt (BLURB)", "DDI (BLURB)", "GAD (BLURB)"),
    "similarity": ("BIOSSES",),
    "documents": ("HoC (BLURB)",),
    "questions": ("PubMedQA", "BioASQ 7b yes/no (BLURB)"),
}
PARTS = tuple(variant for variants in FAMILIES.values() for variant in variants)


def family_means(means: dict[str, float]) -> dict[str, float]:
    """The mean of each family from those of all of PARTS (fractions); their mean is the BLURB score."""
    return {family: statistics.fmean(means[name] for name in variants) for family, variants in FAMILIES.items()}


def parts_of(found: list[Results]) -> dict[str, dict[str, list[Results]]]:
    """Model -> variant -> its results, of those that count."""
    parts: dict[str, dict[str, list[Results]]] = {}
    for results in found:
        if results["variant"] in PARTS and not results["nonstandard_split"] and not results.get("train_on_dev"):
            parts.setdefault(results["model"], {}).setdefault(results["variant"], []).append(results)
    return parts


def line(model: str, parts: dict[str, list[Results]]) -> str:
    """The score of one model with its family means, or why there is none."""
    start = f"BLURB score of {model}:"
    twice = [name for name in PARTS if len(parts.get(name, ())) > 1]
    if twice:
        return f"{start} not computed, for it has several results of {', '.join(twice)}; give folders with one of each."
    missing = [name for name in PARTS if name not in parts]
    missing += [f"{name} (every run failed)" for name, (results,) in parts.items() if results["mean"] is None]
    if missing:
        return f"{start} not computed, for {len(missing)} of {len(PARTS)} parts are missing: {', '.join(missing)}."
    families = family_means({name: results["mean"] for name, (results,) in parts.items()})
    means = ", ".join(f"{family} {100 * mean:.2f}" for family, mean in families.items())
    text = f"{start} {100 * statistics.fmean(families.values()):.2f}, the mean of {means}."
    weights = {results.get("model_fingerprint") for (results,) in parts.values()}
    if len(weights) > 1:
        text += f" The parts were finetuned from {len(weights)} different models of this name."
    return text


def lines(found: list[Results]) -> list[str]:
    """A line for each model that has at least half of the parts."""
    by_model = parts_of(found)
    return [line(model, by_model[model]) for model in sorted(by_model) if 2 * len(by_model[model]) >= len(PARTS)]
