"""What a notebook runs on, and what that means for its ranks."""

from __future__ import annotations

from dwdp_lab.execute.cuda.refusal import check_gpus_here
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.run_result import host_environment
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.simulate.hardware import profile_for
from dwdp_lab.teach.shown import Text


def rank_machine() -> RankMachineName:
    """`cuda` where GPU ranks can run, else `cpu`: for `Ranks(n, machine=...)`. Makes no CUDA context."""
    try:
        check_gpus_here()
    except ScenarioError:
        return "cpu"
    return "cuda"


def this_machine(machine: RankMachineName) -> Text:
    """A line on the machine that ranks run on, and that what they measure is measured there."""
    import torch

    about = host_environment({})
    where = f"{about['cpu']}, {about['cpus_allowed']} cores, torch {torch.__version__}"
    if machine == "cuda":
        gpus = torch.cuda.device_count()  # asks the driver, and makes no context
        return Text(f"Ranks of this notebook are GPU ranks, on {gpus} GPU{'s' * (gpus > 1)} of a machine with {where}.")
    return Text(f"Ranks of this notebook are CPU ranks, on {where}. What they measure is this CPU, not a GPU.")


def profile_of(machine: RankMachineName, device: str) -> str:
    """The simulator's profile for what ranks ran on: `h200` for `NVIDIA H200`.

    `laptop` stands for any CPU, and `h100` for a GPU without a profile of its own: say so beside the numbers.
    """
    if machine == "cpu":
        return "laptop"
    return profile_for(device) or "h100"
