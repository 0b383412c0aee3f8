"""A set-up that fails anywhere leaves nothing; a teardown takes things back in the order the driver wants."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from host_device import HostDevice, HostIpc
from host_memory import HostMemory, no_files_left
from memory_ranks import MODEL, Rank, on_ranks, order_of, scenario
from rank_threads import ThreadSession, in_threads

from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.memory.choose_transport import trials
from dwdp_lab.scenario.scenario import Scenario

ODD = MODEL | {"experts": 7, "layers": 2}


def work_with(view: str) -> Scenario:
    return scenario(2, **{"model": ODD, "group.local_experts": 4, "strategy.weight_view": view})


def prepare_once(work: Scenario, failing: int | None, ipcs: list[HostIpc] | None = None) -> list[HostMemory]:
    """Prepare on two ranks, of which the second fails at its n-th call; what each rank's memory saw."""
    memories = [HostMemory(), HostMemory()]

    def run(session: ThreadSession) -> None:
        memory = memories[session.rank]
        kept = Kept(HostDevice(memory), None if ipcs is None else ipcs[session.rank])
        if session.rank == 1 and failing is not None:
            memory.fail_at = failing
        try:
            kept.prepare(session, order_of(work, session.rank))  # type: ignore[arg-type]
        finally:
            kept.close()

    try:
        in_threads(2, run)
    finally:
        for memory in memories:
            memory.assert_nothing_left()
    return memories


@pytest.mark.parametrize("view", ["split", "merged", "composite"])
def test_a_failure_at_any_call_leaves_nothing(view: str) -> None:
    work = work_with(view)
    with no_files_left():
        probing = HostMemory()
        trials(probing, None)
        calls = prepare_once(work, None)[1].calls
        assert calls > probing.calls + 10
        # a transport that fails when it is tried is not used, so these failures are not errors
        for failing in range(probing.calls, calls):
            with pytest.raises(DriverError, match="made to fail by the test"):
                prepare_once(work, failing)


def test_a_transport_that_fails_at_any_point_of_its_trial_is_not_chosen() -> None:
    """The other rank could use descriptors, but all use the same."""
    work = work_with("split")
    probing = HostMemory()
    trials(probing, None)
    tried = probing.log.index("reserve") + 2  # fabric is tried after it
    for failing in range(tried):
        with (
            no_files_left(),
            pytest.raises(
                RuntimeError, match=r"rank 1, driver memory, shared by POSIX descriptors: .*made to fail by the test"
            ),
        ):
            prepare_once(work, failing)


def test_teardown_is_in_the_drivers_order() -> None:
    """Wait for the device, then unmap, free the addresses, release: the reverse of how each was made."""

    def run(rank: Rank) -> list[str]:
        rank.prepare(work_with("composite"))
        rank.memory.log.clear()
        rank.kept.close()
        return list(rank.memory.log)

    for log in on_ranks(2, run):
        assert log[0] == "synchronize"
        assert set(log) == {"synchronize", "unmap", "free", "release"}
        told = "".join({"synchronize": "s", "unmap": "u", "free": "f", "release": "r"}[each] for each in log)
        # the run's ranges and their edges, then its slots; all peers' ranges; all of the store
        assert re.fullmatch(r"s(u+fr*)+s(su+fr+){2}", told), told


def test_no_page_is_taken_back_while_local_bytes_are_copied_into_it() -> None:
    """A view that fails at its last range has begun to copy into those before."""

    def run(rank: Rank) -> list[str]:
        work = work_with("composite")
        rank.prepare(work)
        rank.memory.calls = 0
        rank.prepare(work)
        rank.memory.log.clear()
        rank.memory.fail_at = 2 * rank.memory.calls - 1
        with pytest.raises(DriverError, match="made to fail by the test"):
            rank.prepare(work)
        rank.memory.fail_at = None
        return list(rank.memory.log)

    for log in on_ranks(2, run):
        last = max(index for index, each in enumerate(log) if each == "map")
        assert log[last + 1 :].index("synchronize") < log[last + 1 :].index("unmap"), log[last:]


def test_a_driver_that_refuses_in_a_run_loses_no_kept_memory() -> None:
    """The second order's slots do not fit; the shard stays, and a smaller order runs."""
    work = work_with("merged").replace(**{"strategy.slots": 1})

    def run(rank: Rank) -> None:
        rank.prepare(work)
        in_use = rank.memory.created_bytes
        shard = rank.kept.shard
        rank.memory.limit = in_use
        with pytest.raises(DriverError, match=r"CUDA_ERROR_OUT_OF_MEMORY.*lower model\.layers"):
            rank.prepare(work.replace(**{"strategy.slots": 2}))
        assert rank.memory.created_bytes < in_use
        rank.prepare(work)
        assert rank.kept.shard is shard
        assert rank.memory.created_bytes == in_use

    on_ranks(2, run)


def test_errors_cross_process_boundaries() -> None:
    error: Any = pickle.loads(pickle.dumps(DriverError("cuMemMap", "CUDA_ERROR_INVALID_VALUE", "2 MiB at 0x0")))
    assert str(error).startswith("cuMemMap (2 MiB at 0x0): CUDA_ERROR_INVALID_VALUE; ")
    assert (error.call, error.result) == ("cuMemMap", "CUDA_ERROR_INVALID_VALUE")
