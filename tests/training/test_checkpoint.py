"""Checkpoints: whole or not at all."""

from pathlib import Path

import pytest
import torch

from mimstocr.errors import RunError
from mimstocr.training.checkpoint import load_checkpoint, part, save_checkpoint

CPU = torch.device("cpu")


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "model.a": torch.randn(3, 4).T,  # not contiguous
        "model.b": torch.zeros(0, 2, dtype=torch.float64),
        "random.cpu": torch.get_rng_state(),
        "steps": torch.tensor(7),
    }
    save_checkpoint(tmp_path / "deep/er/last.safetensors", tensors, {"epoch": 3, "history": [{"x": 0.1}]})
    loaded, header = load_checkpoint(tmp_path / "deep/er/last.safetensors", CPU)
    assert header == {"format": 1, "epoch": 3, "history": [{"x": 0.1}]}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    assert part(loaded, "model.").keys() == {"a", "b"}


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"a": torch.ones(1)}, {"epoch": 1})

    def torn(tensors: object, file: Path, metadata: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("mimstocr.training.checkpoint.save_file", torn)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"a": torch.zeros(1)}, {"epoch": 2})
    tensors, header = load_checkpoint(path, CPU)
    assert header["epoch"] == 1
    assert torch.equal(tensors["a"], torch.ones(1))


def test_missing_foreign_and_newer_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors", CPU)
    (tmp_path / "text.safetensors").write_text("not one of ours, though long enough to have a length")
    with pytest.raises(RunError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path / "text.safetensors", CPU)
    monkeypatch.setattr("mimstocr.training.checkpoint.FORMAT", 2)
    save_checkpoint(tmp_path / "new.safetensors", {"a": torch.ones(1)}, {})
    monkeypatch.undo()
    with pytest.raises(RunError, match="format 2, this version reads 1"):
        load_checkpoint(tmp_path / "new.safetensors", CPU)
