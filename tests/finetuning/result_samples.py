"""results.json files as a finetuning run writes them, for the tests of the table."""

import json
import statistics


def results(variant, model, mean, **more):
    """The content of a results.json."""
    part = {"sentences": 4560}
    return {
        "variant": variant,
        "model": model,
        "metric": "entity-level F1",
        "mean": mean,
        "std": 0.0012,
        "seeds": [{}, {}, {}],
        "failed": 0,
        "nonstandard_split": False,
        "published": [],
        "split": {"train": part, "dev": part, "test": part},
        **more,
    }


def seeded(variant, model, scores, **more):
    """The same with the scores of seeds 0, 1, ...; None is a failed run."""
    good = [score for score in scores if score is not None]
    seeds = [
        {"seed": seed, "score": score, "failed": "the dev score is 0" if score is None else None}
        for seed, score in enumerate(scores)
    ]
    mean, std = statistics.fmean(good) if good else None, statistics.stdev(good) if len(good) > 1 else None
    return results(variant, model, mean, std=std, seeds=seeds, failed=len(scores) - len(good), **more)


def write(folder, content):
    """Put `content` into a new folder."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


def write_all(folder, contents):
    """Each into a folder of its own below `folder`."""
    for i, content in enumerate(contents):
        write(folder / str(i), content)
