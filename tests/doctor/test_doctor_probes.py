"""Probes on this machine, on stand-ins for GPUs, and with an nvidia-smi of our own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from dwdp_lab.doctor.probes import host, nccl, notebook_kernel, nvidia, packages, triton_kernel
from dwdp_lab.doctor.probes.gpu_pairs import round_trip
from dwdp_lab.doctor.probes.peer_memory import PeerMemoryFacts, export_import
from dwdp_lab.doctor.probes.rank_processes import probe as two_ranks
from dwdp_lab.doctor.probes.shared_memory import probe as shared_memory

HERE = str(Path(__file__).parent)


def test_the_host_is_what_python_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DWDP_LAB_PROGRESS", str(tmp_path / "not" / "there" / "progress.json"))
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    monkeypatch.setenv("UNRELATED_SECRET", "keep me")
    facts = host.probe()
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.shared_file_trouble == ""
    assert 0 < facts.cores <= (os.cpu_count() or 1)
    assert {place.name: place.trouble for place in facts.places} == {
        "where you are": "",
        "temporary files": "",
        "your progress": "",
    }
    assert not (tmp_path / "not").exists()
    assert facts.environment["NCCL_NVLS_ENABLE"] == "0"
    assert "UNRELATED_SECRET" not in facts.environment


def test_a_place_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    place = host._place("here", blocked)
    assert place.trouble
    assert place.free_bytes == 0


def test_packages_are_those_that_pyproject_asks_for() -> None:
    facts = packages.probe()
    asked = set(importlib.metadata.metadata("dwdp-lab").get_all("Provides-Extra") or ()) | {"core"}
    assert set(facts.wanted) <= asked
    assert "numpy" in facts.wanted["core"]
    assert facts.installed["torch"] == importlib.metadata.version("torch")
    assert facts.installed["jupyterlab-widgets"] == importlib.metadata.version("jupyterlab-widgets")
    assert facts.front_ends["anywidget"] == facts.installed["anywidget"]


def test_a_misfit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real, real_requires = importlib.metadata.version, importlib.metadata.requires
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.0" if name == "numpy" else real(name))
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: ["numpy<2", "no-such-package>3"] if name == "plotly" else real_requires(name),
    )
    assert [misfit for misfit in packages.probe().misfits if misfit.startswith("plotly")] == [
        f"plotly {real('plotly')} needs numpy<2, and 2.0 is installed",
        f"plotly {real('plotly')} needs no-such-package>3, which is not installed",
    ]


def test_an_extension_that_is_switched_off_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "labconfig" / "page_config.json"
    page.parent.mkdir()
    page.write_text(json.dumps({"disabledExtensions": {"anywidget": True, "something-else": True}}))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    assert packages.probe().disabled == ("anywidget",)


def test_a_notebook_s_kernel_starts_in_this_python() -> None:
    facts = notebook_kernel.probe()
    assert facts == (True, importlib.metadata.version("dwdp-lab"), "")


def test_a_kernel_that_lacks_the_lab_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_kernel, "CODE", "import no_such_lab")
    assert notebook_kernel.probe().trouble == "ModuleNotFoundError: No module named 'no_such_lab'"


SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*) cat <<'END'
0, GPU-a, NVIDIA H100 80GB HBM3, 580.65.06, 81559, 81008, Default, Disabled
1, GPU-b, NVIDIA GeForce RTX 4090, 580.65.06, 24564, 900, Exclusive_Process, [N/A]
END
  ;;
  *) cat <<'END'
GPU-b, 4242, /usr/bin/python3, 23000
GPU-b, 4243, [Not Found], [N/A]
END
  ;;
esac
"""


def put_smi(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(script)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_what_nvidia_smi_says_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_smi(monkeypatch, tmp_path, SMI)
    facts = nvidia.probe()
    assert facts.gpu_count == 2
    assert facts.gpus[0] == (0, "GPU-a", "NVIDIA H100 80GB HBM3", "580.65.06", 81559, 81008, "Default", "Disabled")
    assert facts.gpus[1].free_mib == 900
    assert facts.holders == (("GPU-b", 4242, "python3", 23000), ("GPU-b", 4243, "[Not Found]", None))


def test_a_broken_driver_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_smi(monkeypatch, tmp_path, "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library mismatch'\nexit 18\n")
    facts = nvidia.probe()
    assert facts.gpus == ()
    assert facts.trouble == "Failed to initialize NVML: Driver/library mismatch"


def test_the_kernel_is_right_under_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from dwdp_lab.doctor.ask import ask

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    facts = ask(triton_kernel.__name__, 100.0).facts
    assert (facts.on, facts.right) == ("interpreter", True)


def test_two_processes_share_a_megabyte() -> None:
    assert shared_memory() == (1 << 20, True)


@pytest.mark.ranks
def test_two_ranks_pull_and_agree() -> None:
    facts = two_ranks()
    assert facts.equal
    assert facts.pulled_bytes > 1e6


def test_a_round_trip_compares_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert round_trip(cpu, cpu) == ""
    assert "meta" in round_trip(cpu, torch.device("meta"))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, _: torch.ones_like(self))  # a link that loses what is sent
    assert "bytes came back wrong" in round_trip(cpu, cpu)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("stand_ins")
def test_a_block_goes_to_a_second_process_and_back() -> None:
    facts = export_import("files_as_gpu_memory:FileMemory", (0, 1))
    assert facts == PeerMemoryFacts((0, 1), 2 << 20, True)


@pytest.mark.usefixtures("stand_ins")
def test_a_block_that_is_another_is_found_out() -> None:
    assert not export_import("files_as_gpu_memory:OtherMemory", (0, 1)).right


@pytest.mark.usefixtures("stand_ins")
def test_a_second_process_that_fails_does_not_hang_the_first() -> None:
    with pytest.raises((EOFError, OSError)):
        export_import("files_as_gpu_memory:RefusedMemory", (0, 1))


def test_the_first_collective_runs_here_by_gloo() -> None:
    facts = nccl.first_collective("gloo", 2)
    assert (facts.ranks, facts.troubles) == (2, {})


def test_a_collective_that_cannot_begin_says_why() -> None:
    troubles = nccl.first_collective("no_such_backend", 2).troubles
    assert troubles
    assert all("no_such_backend" in trouble.lower() for trouble in troubles.values())
