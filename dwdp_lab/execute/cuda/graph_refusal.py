"""Why a program cannot be replayed from CUDA graphs: told by the session before anything is started."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Program
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

LEAVE_OUT = "leave graphs out"


def check_replays(machine: str, scenario: Scenario, programs: Sequence[Program], gpus: int) -> None:
    """Raises ScenarioError (field `graph`) for what cannot be captured and replayed bit for bit on so many GPUs."""
    strategy = scenario.strategy
    kinds = {op.kind for program in programs for op in program.ops}
    if machine != "cuda":
        raise _refused(f"{machine} ranks have none: it is a GPU's list of work", f"take machine cuda, or {LEAVE_OUT}")
    if kinds & MESSAGES or any(op.micro is not None for program in programs for op in program.ops):
        reason = f"steps of {strategy.name} overlap on all ranks, and graphs of steps run one after another"
        raise _refused(reason, LEAVE_OUT)
    if "dispatch" in kinds:
        reason = "in an all-to-all over NCCL the host reads how many rows go where, and a graph runs without it"
        raise _refused(reason, "set strategy.dep_form=all_gather, or " + LEAVE_OUT)
    if any(op.pull is not None and op.pull.routed for program in programs for op in program.ops):
        reason = "the host reads which experts tokens were routed to, and a graph runs without the host"
        raise _refused(reason, "set strategy.pull=all, or " + LEAVE_OUT)
    if "pull" in kinds and strategy.copy_calls == "batched":
        reason = "cudaMemcpyBatchAsync cannot be captured"
        raise _refused(reason, "set strategy.copy_calls=plain or auto, or " + LEAVE_OUT)
    if kinds & COLLECTIVES and strategy.collectives == "copy":
        reason = "copies between ranks are counted, and a replay would wait for the numbers of the step captured"
        raise _refused(reason, "set strategy.collectives=nccl or auto, or " + LEAVE_OUT)
    if kinds & COLLECTIVES and scenario.ranks > gpus:
        reason = f"in a graph ranks meet over NCCL, which wants a GPU for each: {scenario.ranks} ranks on {gpus} GPUs"
        raise _refused(reason, f"take as many ranks as GPUs, or {LEAVE_OUT}")


def _refused(reason: str, hint: str) -> ScenarioError:
    return ScenarioError("graph", True, reason, hint)
