"""Facts of machines that are well: a laptop, and two GPUs. Tests change one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dwdp_lab.doctor.checks import ROUNDS
from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import Finding, Form, Level
from dwdp_lab.doctor.probes.gpu_pairs import GpuPairFacts
from dwdp_lab.doctor.probes.host import HostFacts, Place
from dwdp_lab.doctor.probes.nccl import NcclFacts
from dwdp_lab.doctor.probes.notebook_kernel import KernelFacts
from dwdp_lab.doctor.probes.nvidia import Gpu, Holder, NvidiaFacts
from dwdp_lab.doctor.probes.packages import PackageFacts
from dwdp_lab.doctor.probes.peer_memory import PeerMemoryFacts
from dwdp_lab.doctor.probes.rank_processes import RankFacts
from dwdp_lab.doctor.probes.shared_memory import SharedMemoryFacts
from dwdp_lab.doctor.probes.torch_build import TorchFacts, TorchGpu
from dwdp_lab.doctor.probes.triton_kernel import TritonFacts

INSTALLED: dict[str, str | None] = {
    "numpy": "2.4.6",
    "pydantic": "2.14.3",
    "torch": "2.13.0",
    "psutil": "7.2.2",
    "triton": "3.7.1",
    "jupyterlab": "4.6.6",
    "ipykernel": "7.4.0",
    "ipywidgets": "8.1.9",
    "jupyterlab-widgets": "3.0.17",
    "anywidget": "0.11.0",
    "plotly": "7.1.0",
    "nbval": "0.11.0",
    "pytest": "9.2.0",
    "cuda-bindings": "13.0.1",
    "nvidia-ml-py": "13.580.65",
}
GPU = Gpu(0, "GPU-a", "NVIDIA H100 80GB HBM3", "580.65", 81559, 81000, "Default", "Disabled")
OTHER_GPU = GPU._replace(number=1, uuid="GPU-b")
HOLDER = Holder("GPU-b", 4242, "python3", 30000)


def laptop() -> Facts:
    return Facts(
        host=HostFacts(
            python="3.11.7",
            python_wanted=">=3.11",
            free_threaded=False,
            system="Linux",
            processor="x86_64",
            cores=4,
            memory_free_bytes=8 << 30,
            shm_bytes=8 << 30,
            shared_file_trouble="",
            locked_memory_bytes=8 << 20,
            open_files=65536,
            places=tuple(Place(name, 50 << 30, "") for name in ("where you are", "temporary files", "your progress")),
            environment={},
        ),
        packages=PackageFacts(
            installed=INSTALLED,
            wanted={"core": ("numpy", "pydantic"), "ranks": ("torch", "psutil")},
            misfits=(),
            front_ends={"jupyterlab-widgets": "5.0.16", "anywidget": "0.11.0"},
            disabled=(),
            jupyter_elsewhere=False,
        ),
        notebook_kernel=KernelFacts(True, "0.1.0", ""),
        nvidia=NvidiaFacts(0, (), (), "nvidia-smi is not here"),
        torch_build=TorchFacts("2.13.0+cpu", "", "", (), (), "", True, ""),
        triton_kernel=TritonFacts("3.7.1", "interpreter", True, True),
        shared_memory=SharedMemoryFacts(1 << 20, True),
        rank_processes=RankFacts(2e6, True),
    )


def two_gpus() -> Facts:
    facts = laptop()
    hopper = TorchGpu("NVIDIA H100 80GB HBM3", (9, 0))
    facts.nvidia = NvidiaFacts(2, (GPU, OTHER_GPU), (), "")
    facts.torch_build = TorchFacts("2.13.0+cu130", "13.0", "", (hopper, hopper), ("sm_90",), "2.28.3", True, "13.0")
    facts.triton_kernel = TritonFacts("3.7.1", "GPU", True, True)
    facts.gpu_pairs = GpuPairFacts(("", ""), {(0, 1): ""}, {(0, 1): True})
    facts.peer_memory = PeerMemoryFacts((0, 1), 2 << 20, True)
    facts.nccl = NcclFacts(2, {}, 6.0)
    change(facts, "host", locked_memory_bytes=None)
    return facts


def change(facts: Facts, probe: str, **fields: Any) -> Facts:
    """The same machine with other facts from one probe."""
    setattr(facts, probe, getattr(facts, probe)._replace(**fields))
    return facts


def without(facts: Facts, *packages: str) -> Facts:
    """The same machine without some packages."""
    return change(facts, "packages", installed=INSTALLED | dict.fromkeys(packages))


def named(findings: Iterable[Finding], name: str) -> Finding:
    """The one finding of that name."""
    [found] = [finding for finding in findings if finding.name == name]
    return found


def judged(facts: Facts) -> list[Finding]:
    """What all judges say whose facts are there."""
    checks = [check for checks in ROUNDS for check in checks if getattr(facts, check.probe) is not None]
    return [finding for check in checks for judge in check.judges for finding in judge(facts)]


class Case(NamedTuple):
    """A machine that is well but for `fields` of one probe, and the finding that tells so."""

    machine: Callable[[], Facts]
    probe: str
    fields: dict[str, Any]
    name: str
    level: Level
    words: str
    stops: tuple[Form, ...] = ()
    blamed: tuple[str, ...] = ()
    """Other findings that may be bad for the same reason."""

    def __str__(self) -> str:
        return f"{self.name}-{self.level}-{self.words}"

    def assert_found(self) -> None:
        """The finding has its level, words, fix and forms, and no other finding turned bad."""
        findings = judged(change(self.machine(), self.probe, **self.fields))
        finding = named(findings, self.name)
        assert finding.level == self.level
        assert self.words in finding.found
        assert set(finding.stops) == set(self.stops)
        assert self.level == "ok" or finding.fix
        before = {other.name for other in judged(self.machine()) if other.level != "ok"}
        bad = {other.name for other in findings if other.level != "ok"}
        assert bad - before <= {self.name, *self.blamed}
