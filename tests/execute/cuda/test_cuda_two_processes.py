"""Memory that really crosses from one process to another, on stand-in memory."""

from __future__ import annotations

from typing import Any

from host_device import HostDevice, HostIpc
from host_memory import HostMemory, no_files_left
from memory_ranks import MODEL, Rank, check_tables, order_of, perform, run_all_layers, scenario
from pair_of_processes import PairSession, run_pair

from dwdp_lab.execute.cuda.kept import Kept

TRANSPORTS = ("descriptor", "fabric", "ipc")


def prepare_and_check(session: PairSession, argument: Any) -> list[str]:
    """Over every transport in turn, from nothing to nothing."""
    return [over(session, transport, argument) for transport in TRANSPORTS]


def over(session: PairSession, transport: str, model: Any) -> str:
    view = "split" if transport == "ipc" else "composite"
    work = scenario(2, **{"model": model, "strategy.weight_view": view})
    with no_files_left():
        memory = HostMemory(offered=() if transport == "ipc" else (transport,))  # type: ignore[arg-type]
        device = HostDevice(memory)
        ipc = HostIpc() if transport == "ipc" else None
        kept = Kept(device, ipc)
        if ipc is None:
            run_all_layers(Rank(session, memory, device, kept), work)  # type: ignore[arg-type]
        else:
            run = kept.prepare(session, order_of(work, session.rank))  # type: ignore[arg-type]
            perform(run.copies(0, 0))
            check_tables(run.tables(0, 0), work, 0, range(work.model.experts))
            del run
        assert kept.transport is not None
        words = kept.transport.words
        session.gather("done", None)
        kept.close()
        memory.assert_nothing_left()
        if ipc is not None:
            ipc.memory.assert_nothing_left()
    return words


def test_two_processes_read_each_others_experts() -> None:
    first, second = run_pair(prepare_and_check, MODEL | {"experts": 7, "expert_intermediate": 80})
    assert first == second
    assert all(word in words for word, words in zip(("POSIX", "fabric", "IPC"), first, strict=True))
