"""What is refused before any rank starts: scenarios that the machine or its memory cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.execute.cpu.memory_need import check_memory
from dwdp_lab.execute.cuda.gpu_memory import check_gpu_memory, visible_gpus
from dwdp_lab.execute.cuda.graph_refusal import check_replays
from dwdp_lab.execute.cuda.refusal import (
    check_collectives,
    check_fits_kernels,
    check_gpus_here,
    check_multiplies_e4m3,
)
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.model.supported import check_runs_on_ranks
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.scenario import Scenario


def check_before_start(
    machine: RankMachineName, scenario: Scenario, held_bytes: Sequence[float] = (), pids: Sequence[int] = ()
) -> None:
    """Raises ScenarioError when ranks of this machine cannot run the scenario here.

    `held_bytes` is the GPU memory that each rank of a running group has already and can use again, `pids` are its
    processes, whose memory CPU ranks use again.
    """
    if machine == "cpu":
        check_runs_on_ranks(scenario.model)
        check_memory(scenario, pids)
        return
    check_gpus_here()
    check_runs_on_ranks(scenario.model)
    check_fits_kernels(scenario)
    import torch

    check_collectives(scenario, torch.cuda.device_count())
    gpus = visible_gpus()
    check_multiplies_e4m3(scenario, gpus)
    check_gpu_memory(scenario, gpus, held_bytes)


def check_graphs(machine: RankMachineName, scenario: Scenario, programs: Sequence[Program]) -> None:
    """Raises ScenarioError when ranks of this machine cannot replay the programs from CUDA graphs here."""
    gpus = 0
    if machine == "cuda":
        import torch

        gpus = torch.cuda.device_count()
    check_replays(machine, scenario, programs, gpus)
