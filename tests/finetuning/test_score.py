"""`finetuning.score`: the numbers of a training, from its predictions file; every benchmark is in its list."""

import ast
import json
from pathlib import Path

import pytest

from finetuning import score
from finetuning.score import BENCHMARKS, main, make_parser, open_benchmark
from tests.finetuning.samples import SENTENCES, pairs
from tests.finetuning.text_samples import write_hoc

SOURCE = Path(score.__file__).parent


def predictions_of(path: Path, wrong: int) -> Path:
    """The gold tags of the eight sentences as token<TAB>gold<TAB>predicted, the first `wrong` entities left out."""
    blocks = []
    for sentence in map(pairs, SENTENCES):
        rows = []
        for word, tag in sentence:
            predicted = tag
            if wrong and tag.startswith("B"):
                predicted, wrong = "O", wrong - 1
            rows.append(f"{word}\t{tag}\t{predicted}")
        blocks.append("\n".join(rows) + "\n")
    path.write_text("\n".join(blocks) + "\n", encoding="utf-8")
    return path


def test_every_benchmark_script_is_in_the_list() -> None:
    scripts = {
        path.stem
        for path in SOURCE.glob("*.py")
        if any(
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "BENCHMARK"
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }
    assert scripts == set(BENCHMARKS) and len(BENCHMARKS) == len(scripts)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_takes_the_shared_flags(name: str) -> None:
    given = ["--data", "folder", "--predictions", "file", "--split", "dev", "--nonstandard-split"]
    options = make_parser(open_benchmark(name), name).parse_args(given)
    assert (options.data, options.predictions, options.split) == (Path("folder"), Path("file"), "dev")
    assert options.nonstandard_split


def test_scores_of_a_file(benchmark_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    entities = sum(tag.startswith("B") for sentence in SENTENCES for _, tag in pairs(sentence))
    for wrong, recall in ((0, 1.0), (1, (entities - 1) / entities)):
        file = predictions_of(tmp_path / "predictions.tsv", wrong)
        main(["bc5cdr", "--data", str(benchmark_folder), "--predictions", str(file), "--nonstandard-split"])
        scores = json.loads(capsys.readouterr().out)
        assert scores["recall"] == pytest.approx(recall)
        assert scores["entities"] == entities


def test_the_output_is_json_whatever_is_said_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = write_hoc(tmp_path / "HoC")
    (folder / "text" / "105.txt").write_text("more\n", encoding="utf-8")
    file = tmp_path / "predictions.tsv"
    file.write_text("index\tlabels\n104_s0\t\n", encoding="utf-8")
    main(["hoc", "--data", str(folder), "--predictions", str(file), "--nonstandard-split"])
    printed = capsys.readouterr()
    assert "micro-F1" in json.loads(printed.out)
    assert "1 abstracts of" in printed.err


def test_mistakes_are_one_sentence(benchmark_folder: Path, tmp_path: Path) -> None:
    given = ["bc5cdr", "--data", str(benchmark_folder), "--predictions"]
    with pytest.raises(SystemExit, match="error: --predictions .* does not exist"):
        main([*given, str(tmp_path / "absent")])
    file = predictions_of(tmp_path / "predictions.tsv", 0)
    with pytest.raises(SystemExit, match="error: .* not a published split of BC5CDR"):
        main([*given, str(file)])
    lines = file.read_text(encoding="utf-8").split("\n")
    file.write_text("\n".join(lines[3:]), encoding="utf-8")
    with pytest.raises(SystemExit, match="error: "):
        main([*given, str(file), "--nonstandard-split"])
    with pytest.raises(SystemExit) as caught:
        main(["unheard_of"])
    assert caught.value.code == 2
