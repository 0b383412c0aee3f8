"""All that was found out about a machine. None stands for what was not looked at, or could not be."""

from __future__ import annotations

from dataclasses import dataclass

from dwdp_lab.doctor.probes.gpu_pairs import GpuPairFacts
from dwdp_lab.doctor.probes.host import HostFacts
from dwdp_lab.doctor.probes.nccl import NcclFacts
from dwdp_lab.doctor.probes.notebook_kernel import KernelFacts
from dwdp_lab.doctor.probes.nvidia import NvidiaFacts
from dwdp_lab.doctor.probes.packages import PackageFacts
from dwdp_lab.doctor.probes.peer_memory import PeerMemoryFacts
from dwdp_lab.doctor.probes.rank_processes import RankFacts
from dwdp_lab.doctor.probes.shared_memory import SharedMemoryFacts
from dwdp_lab.doctor.probes.torch_build import TorchFacts
from dwdp_lab.doctor.probes.triton_kernel import TritonFacts


@dataclass
class Facts:
    """One field per probe, by the name of its module."""

    host: HostFacts | None = None
    packages: PackageFacts | None = None
    notebook_kernel: KernelFacts | None = None
    nvidia: NvidiaFacts | None = None
    torch_build: TorchFacts | None = None
    triton_kernel: TritonFacts | None = None
    shared_memory: SharedMemoryFacts | None = None
    rank_processes: RankFacts | None = None
    gpu_pairs: GpuPairFacts | None = None
    peer_memory: PeerMemoryFacts | None = None
    nccl: NcclFacts | None = None

    @property
    def gpus_here(self) -> int:
        """GPUs of the machine, whether or not torch may use them."""
        return self.nvidia.gpu_count if self.nvidia else 0

    @property
    def gpus_usable(self) -> int:
        """GPUs that torch sees."""
        return len(self.torch_build.gpus) if self.torch_build else 0

    @property
    def gpus_exportable(self) -> bool:
        """The driver's Python bindings are here, with which ranks share GPU memory."""
        return bool(self.packages and self.version("cuda-bindings"))

    def version(self, package: str) -> str | None:
        """Of an installed package."""
        return self.packages.installed.get(package) if self.packages else None
