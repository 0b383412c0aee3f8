"""`bench copies` and `bench contention` on NVIDIA GPUs; ranks share them where there are fewer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dwdp_lab.cli.main import main
from dwdp_lab.cli.transfer_options import lacking_for_gpu_ranks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.ranks,
    pytest.mark.skipif(lacking_for_gpu_ranks() is not None, reason=str(lacking_for_gpu_ranks())),
]


def record(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "record.json"
    assert main(["bench", *arguments, "--machine", "cuda", "--json", str(file), "--pictures", str(tmp_path)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["machine"] == "cuda"
    assert found["driver"]
    assert set(found["versions"]) == {"python", "torch", "cuda"}
    assert found["checked_bytes"] > 0
    assert any(note.startswith("peers' memory: ") for note in found["notes"])
    shared = found["ranks"] > torch.cuda.device_count()
    assert any("share" in note and "GPUs" in note for note in found["notes"]) is shared
    return found


@pytest.mark.timeout(300)
def test_copies_between_two_ranks(tmp_path: Path) -> None:
    found = record(tmp_path, "copies", "--largest", "64MiB", "--share", "32MiB", "--repeats", "3")
    assert set(found["within_a_rank"]) == {"plain", "kernel"}
    ways = {(one["way"], one["ahead"]) for one in found["sliced"]}
    assert {("plain", False), ("plain", True)} <= ways
    rates = dict(zip(found["one_copy"]["bytes"], found["one_copy"]["gbps"], strict=True))
    assert rates[64 << 20] > rates[64 << 10]
    # a GPU's clock is tied to the host's more closely than any copy of interest takes, unless others use the GPUs too
    assert 0 < found["clock_error_us"] < 1000


@pytest.mark.timeout(300)
def test_contention_among_three_ranks(tmp_path: Path) -> None:
    slices = ("--slices", "none,1MiB", "--orders", "ascending,interleaved")
    found = record(tmp_path, "contention", "--ranks", "3", "--share", "12MiB", *slices, "--repeats", "2")
    assert len(found["pulls"]) == 2 * 2 * 2 + 1
    for row in found["levels"]:
        assert row["measured"] is None or sum(row["measured"]) == pytest.approx(1)
    assert {row["readers"] for row in found["readers"]} == {1, 2}


def test_the_bindings_are_there() -> None:
    assert importlib.util.find_spec("cuda.bindings.driver") is not None
