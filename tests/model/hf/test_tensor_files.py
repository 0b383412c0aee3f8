"""What a checkpoint's files hold is told, and also that one of them is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dwdp_lab.model.hf.tensor_files import INDEX, SINGLE, check_files, file_of_tensors
from dwdp_lab.scenario.errors import ScenarioError


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    pytest.importorskip("safetensors").torch.save_file(tensors, path, metadata={"format": "pt"})
    return path


def test_one_file_or_several(tmp_path: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    saved(tmp_path / "1.safetensors", a=torch.ones(3))
    saved(tmp_path / "2.safetensors", b=torch.ones(2, 5, dtype=torch.bfloat16), c=torch.empty(0))
    check_files(tmp_path)
    assert file_of_tensors(tmp_path) == index["weight_map"]
    # a checkpoint that was written anew as one file: transformers reads that, whatever the old index says
    saved(tmp_path / SINGLE, a=torch.ones(3), d=torch.ones(1))
    check_files(tmp_path)
    assert file_of_tensors(tmp_path) == {"a": SINGLE, "d": SINGLE}


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_download_that_broke_off_is_noticed(tmp_path: Path, kept: int) -> None:
    file = saved(tmp_path / SINGLE, a=torch.ones(300))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ScenarioError, match=rf"has {SINGLE}, which is no whole safetensors file.*Download it again"):
        check_files(tmp_path)


def test_something_else_under_that_name_is_noticed(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_text("version https://git-lfs.github.com/spec/v1 oid sha256:0 size 100")
    with pytest.raises(ScenarioError, match="no whole safetensors file"):
        check_files(tmp_path)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_cannot_be_read_is_told(tmp_path: Path, index: str) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(ScenarioError, match=rf"its {INDEX} cannot be read"):
        check_files(tmp_path)


def test_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=rf"neither {INDEX} nor {SINGLE}.*Give the folder"):
        check_files(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "1.safetensors"}}))
    with pytest.raises(ScenarioError, match=r"lacks its file 1\.safetensors\. Download it again"):
        check_files(tmp_path)
