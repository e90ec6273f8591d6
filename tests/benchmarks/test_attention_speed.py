"""The table of attention's speed: every way computes the same, every setting has its row."""

import pytest
import torch

from benchmarks import attention_speed
from benchmarks.attention_speed import WAYS, main


def test_a_row_for_each_setting(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_speed, "SAMPLES", ((2, 8), (1, 16)))
    main(["--rounds", "1"])
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 * 2 * 2 and all(row.count("|") == header.count("|") for row in rows)
    assert rows[0].startswith("| fp32, 2 x 8, none |") and rows[-1].startswith("| bf16, 1 x 16, 0.1 |")
    assert all(float(cell) >= 0 for row in rows for cell in row.split("|")[2:-1])


def test_all_ways_compute_the_same() -> None:
    lengths, bounds = (16, 16, 16), torch.tensor([0, 16, 32, 48], dtype=torch.int32)
    qkv = torch.randn(48, 3, 4, 64, dtype=torch.float64)
    first, *others = (attention(qkv, lengths, bounds, 0.0) for attention in WAYS)
    assert all(torch.allclose(first, other, atol=1e-13) for other in others)
