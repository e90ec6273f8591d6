"""What a run writes about itself: metrics.jsonl, TensorBoard, run_state.json, durations; also after going on."""

import json
import math
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretraining.run_log import METRICS, STATE, RunLog, duration, write_state
from tests.run_folders import read_rows


def board_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{name: [(step, value)]} as TensorBoard shows it."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=True)
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def numbers(step: int, offset: float = 0.0) -> dict[str, float]:
    return {
        "loss": 10.0 / step + offset,
        "learning_rate": 1e-4 * step,
        "tokens_per_second": 1234.5,
        "seconds_left": 61.0,
    }


def write_steps(run: Path, first_step: int, last_step: int, offset: float = 0.0) -> None:
    log = RunLog(run, run / "tensorboard", 0, first_step, 10)
    for step in range(first_step + 1, last_step + 1):
        log.write("train", step, numbers(step, offset))
        if step % 2 == 0:
            log.write("validation", step, {"loss": 5.0 / step + offset})
        log.advance()
    log.close()


def test_rows_are_json_and_tensorboard_has_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_steps(tmp_path, 0, 4)
    rows = read_rows(tmp_path / METRICS)
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("train", 1), ("train", 2), ("validation", 2), ("train", 3), ("train", 4), ("validation", 4),
    ]  # fmt: skip
    board = board_of(tmp_path / "tensorboard")
    assert set(board) == {
        "train/loss",
        "train/learning_rate",
        "train/tokens_per_second",
        "train/seconds_left",
        "validation/loss",
    }
    for name, points in board.items():
        kind, number = name.split("/")
        expected = [(row["step"], pytest.approx(row[number], rel=1e-6)) for row in rows if row["kind"] == kind]
        assert points == expected
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("train      step 1/10  loss 10.000  lr 1.00e-04  tok/s 1,234  left 1m 01s")


def test_after_going_on_every_step_is_there_once(tmp_path: Path) -> None:
    """A run died after step 6, its newest checkpoint was that of step 3: steps 4 to 6 are done and written again."""
    write_steps(tmp_path, 0, 6)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"kind": "train", "st')  # what a kill leaves
    write_steps(tmp_path, 3, 8, offset=100.0)

    rows = read_rows(tmp_path / METRICS)
    expected = {step: 10.0 / step + (100.0 if step > 3 else 0.0) for step in range(1, 9)}
    assert {row["step"]: row["loss"] for row in rows if row["kind"] == "train"} == expected
    assert len([row for row in rows if row["kind"] == "train"]) == 8
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [2, 4, 6, 8]

    board = board_of(tmp_path / "tensorboard")
    assert board["train/loss"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in expected.items()]
    assert [step for step, _ in board["validation/loss"]] == [2, 4, 6, 8]


def test_a_run_killed_before_its_first_checkpoint_starts_its_records_again(tmp_path: Path) -> None:
    write_steps(tmp_path, 0, 3)
    write_steps(tmp_path, 0, 2, offset=100.0)
    assert [row["loss"] for row in read_rows(tmp_path / METRICS) if row["kind"] == "train"] == [110.0, 105.0]
    assert board_of(tmp_path / "tensorboard")["train/loss"] == [(1, 110.0), (2, 105.0)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_null(tmp_path: Path, value: float) -> None:
    log = RunLog(tmp_path, tmp_path / "tensorboard", 0, 0, 10)
    log.write("train", 1, {"loss": 2.0, "gradient_norm": value})
    log.close()
    (row,) = read_rows(tmp_path / METRICS)
    assert row["loss"] == 2.0 and row["gradient_norm"] is None


def test_on_a_terminal_a_bar_counts_the_steps_below_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = RunLog(tmp_path, tmp_path / "tensorboard", 0, 3, 10)
    log.advance()
    log.say("a word")
    log.advance()
    assert log.bar.n == 5
    log.close()
    output, bar = capsys.readouterr()
    assert output == "a word\n" and "5/10" in bar


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = RunLog(tmp_path, tmp_path / "tensorboard", 1, 0, 10)
    log.write("train", 1, numbers(1))
    log.say("a word")
    log.advance()
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_the_state_is_replaced_whole(tmp_path: Path) -> None:
    write_state(tmp_path, "running", 3)
    write_state(tmp_path, "stopped", 4, reason="signal SIGTERM")
    state = json.loads((tmp_path / STATE).read_text())
    assert (state["status"], state["step"], state["reason"]) == ("stopped", 4, "signal SIGTERM")
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (306, "5m 06s"),
        (3599.9, "1h 00m"),
        (11_045, "3h 04m"),
        (86_400, "1d 00h"),
        (183_600, "2d 03h"),
        (400 * 86_400, "400d 00h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
