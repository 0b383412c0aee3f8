"""Whole programs of ranks that meet by copies, and what they do where copies do not work or are not wanted."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from host_memory import HostMemory
from rank_scenarios import assert_equals_oracle
from stand_in_device import StandInDevice, StandInStream
from stand_in_group import StandInGroup, start_at_once
from test_cuda_schedules import FORMS, MODEL, scenario

from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.meetings import open_mailboxes
from dwdp_lab.execute.cuda.memory import choose_transport
from dwdp_lab.execute.cuda.setup import Setup, prepare
from dwdp_lab.execute.cuda.timed_run import PACED
from dwdp_lab.execute.messages import Finished
from dwdp_lab.program import mailbox
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

BY_COPIES = "collectives by copy engine through peer memory"
UNDERNEATH = "collectives of the stand-in"
BF16 = MODEL | {"name": "bf16", "dtype": "bf16", "expert_dtype": "bf16"}
E4M3 = MODEL | {"name": "e4m3", "dtype": "bf16", "expert_dtype": "fp8_channel"}


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        start_at_once(patch)
        # places of 1 KiB, so that most of what travels is cut in pieces
        patch.setattr("dwdp_lab.execute.cuda.meetings.open_mailboxes.place_bytes", lambda _: 1024)
        yield


def run(group: StandInGroup, work: Scenario, seed: int = 0, **how: Any) -> list[Finished]:
    group.schedule(seed)
    return group.run(work, **how)


def notes(reports: list[Finished]) -> set[str]:
    """What ranks say of the run; the stand-in waits for its host all the time."""
    return {note for report in reports for note in report.notes} - {PACED}


@pytest.mark.parametrize("model", [MODEL, E4M3], ids=["fp32", "e4m3"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_weights_and_micro_batches_arrive_bit_for_bit(ranks: int, model: dict[str, Any]) -> None:
    group, all_at_once = StandInGroup(ranks, copies=True), StandInGroup(ranks)
    forms: list[dict[str, Any]] = [
        {"strategy.name": "weight_gather", "strategy.collectives": "copy"},
        {"strategy.name": "pipeline"},
        {"strategy.name": "pipeline", "strategy.micro_batches": 2},
    ]
    for form in forms:
        work = scenario(ranks, model).replace(**form)
        expected = [report.output_sha256 for report in run(all_at_once, work)]
        for seed in range(6):
            reports = run(group, work, seed)
            assert [report.output_sha256 for report in reports] == expected, (form, seed)
            assert BY_COPIES in notes(reports)
    group.close()
    all_at_once.close()


@pytest.mark.parametrize("model", [MODEL, BF16, E4M3], ids=["fp32", "bf16", "e4m3"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_tokens_and_sums_compute_the_model(form: dict[str, Any], model: dict[str, Any]) -> None:
    """Within what rounding explains; the same bits in any schedule; a rank without tokens too."""
    group = StandInGroup(3, copies=True)
    base = scenario(3, model).replace(**form)
    for work in (base, base.replace(workload={"kind": "explicit", "lengths": [[7, 2], [], [1]]})):
        found = []
        for seed in range(4):
            reports = run(group, work, seed)
            assert BY_COPIES in notes(reports)
            found.append([report.output_sha256 for report in reports])
        assert all(hashes == found[0] for hashes in found)
        outputs, routing = (tuple(getattr(report, name) for report in reports) for name in ("outputs", "routing"))
        assert_equals_oracle(work, SimpleNamespace(outputs=outputs, routing=routing))  # type: ignore[arg-type]
    group.close()


def test_graphs_gathered_weights_and_a_wish_for_nccl_meet_underneath() -> None:
    group = StandInGroup(2, copies=True)
    work = scenario(2).replace(**{"strategy.name": "dep", "strategy.dep_form": "all_gather"})
    seen = [
        notes(run(group, work)),
        notes(run(group, work, graph=True)),
        notes(run(group, work.replace(**{"strategy.collectives": "nccl"}))),
        notes(run(group, work.replace(**{"strategy.collectives": "copy"}))),
        notes(run(group, work.replace(**{"strategy.name": "weight_gather"}))),
    ]
    assert [BY_COPIES in each for each in seen] == [True, False, False, True, False]
    assert [UNDERNEATH in each for each in seen] == [False, True, True, False, True]
    group.close()


def no_values(patch: pytest.MonkeyPatch) -> str:
    def one(device: StandInDevice) -> str | None:
        return "these streams know no words" if device.rank == 1 else None

    patch.setattr(StandInDevice, "why_no_values", one)
    return "rank 1: these streams know no words"


def no_memory(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(open_mailboxes, "place_bytes", lambda _: 1 << 55)
    return "rank 0: create"


def no_access(patch: pytest.MonkeyPatch) -> str:
    right = HostMemory.map

    def refused(memory: HostMemory, address: int, nbytes: int, block: int) -> None:
        if memory.blocks[block].adopted:
            raise DriverError("cuMemSetAccess", "CUDA_ERROR_INVALID_DEVICE", "a peer's block")
        right(memory, address, nbytes, block)

    patch.setattr(HostMemory, "map", refused)
    patch.setattr(choose_transport, "trials", lambda *_: (choose_transport.Trial("descriptor", None),))
    return "rank 0: cuMemSetAccess (a peer's block): CUDA_ERROR_INVALID_DEVICE; the GPUs cannot read each other's"


def unseen_words(patch: pytest.MonkeyPatch) -> str:
    patch.setattr(StandInStream, "write_value", lambda *_: None)
    patch.setattr(open_mailboxes, "TRY_S", 0.0)
    return "rank 0: what rank 1 has written into this rank's memory is not seen here"


def no_transport(patch: pytest.MonkeyPatch) -> str:
    failed = choose_transport.Trial("descriptor", "is forbidden")
    patch.setattr(choose_transport, "trials", lambda *_: (failed,))
    return "ranks cannot share GPU memory"


@pytest.mark.parametrize(
    "plant", [no_values, no_memory, no_access, unseen_words, no_transport], ids=lambda each: each.__name__
)
def test_where_copies_do_not_work_ranks_meet_underneath_and_say_why(
    plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = StandInGroup(2, copies=True)
    work = scenario(2).replace(**{"strategy.name": "tensor"})
    expected = [report.output_sha256 for report in run(group, work)]
    group.close()
    group = StandInGroup(2, copies=True)
    why = plant(monkeypatch)
    for seed in range(2):
        reports = run(group, work, seed)
        assert [report.output_sha256 for report in reports] == expected
        assert UNDERNEATH in notes(reports)
        assert any(note.startswith(f"collectives by copy engine do not work here: {why}") for note in notes(reports))
    plain = notes(run(group, work.replace(**{"strategy.collectives": "nccl"})))
    assert UNDERNEATH in plain
    assert not any("do not work here" in note for note in plain)
    group.close()
    for device in group.devices:
        device.memory.assert_nothing_left()


def test_mailboxes_that_one_rank_had_no_memory_for_are_made_when_there_is_some() -> None:
    group = StandInGroup(2, copies=True)
    work = scenario(2).replace(**{"strategy.name": "tensor"})
    memory = group.devices[1].memory
    plenty, memory.limit = memory.limit, 3 * memory.granularity  # enough to try a transport
    for _ in range(2):
        assert any("CUDA_ERROR_OUT_OF_MEMORY" in note for note in notes(run(group, work)))
    memory.limit = plenty
    found = notes(run(group, work))
    assert BY_COPIES in found
    assert UNDERNEATH not in found
    group.close()
    for device in group.devices:
        device.memory.assert_nothing_left()


def test_what_memory_does_not_mend_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    group = StandInGroup(2, copies=True)
    work = scenario(2).replace(**{"strategy.name": "tensor"})
    no_values(monkeypatch)
    group.devices[0].memory.limit = 3 * group.devices[0].memory.granularity
    first = notes(run(group, work))
    monkeypatch.setattr(StandInDevice, "why_no_values", lambda _: pytest.fail("tried again"))
    assert notes(run(group, work)) == first
    group.close()


def test_mailboxes_make_room_for_an_order_without_meetings() -> None:
    group = StandInGroup(2, copies=True)
    memories = [device.memory for device in group.devices]
    meets = scenario(2).replace(**{"strategy.name": "tensor"})
    alone = scenario(2).replace(**{"strategy.name": "replicated"})
    expected = [report.output_sha256 for report in run(group, meets)]
    kept = [memory.created_bytes for memory in memories]
    assert all(kept)
    run(group, alone)
    assert [memory.created_bytes for memory in memories] == kept, "there is room for both"
    plenty, memories[1].limit = memories[1].limit, kept[1]
    run(group, alone)
    assert [memory.created_bytes for memory in memories] == [0, 0], "one rank without room is enough"
    memories[1].limit = plenty
    reports = run(group, meets)
    assert BY_COPIES in notes(reports)
    assert [report.output_sha256 for report in reports] == expected
    group.close()


def test_copies_that_are_wanted_and_do_not_work_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    group = StandInGroup(2, copies=True)
    why = no_values(monkeypatch)
    wanted = scenario(2).replace(**{"strategy.name": "dep", "strategy.collectives": "copy"})
    with pytest.raises(ScenarioError, match=r"strategy\.collectives = 'copy': does not work here \(" + why) as caught:
        run(group, wanted)
    assert "take auto" in str(caught.value).lower()


def test_programs_for_processors_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """GEMMs are cut in parts only beside collectives that keep processors, and for weights that kernels read."""
    seen: list[bool] = []

    def noted(*what: Any) -> Setup:
        made = prepare(*what)
        seen.append(made.beside_collectives)
        return made

    monkeypatch.setattr("dwdp_lab.execute.cuda.run_order.prepare", noted)
    group = StandInGroup(2, copies=True)
    for name in ("dep", "pipeline", "weight_gather"):
        run(group, scenario(2).replace(**{"strategy.name": name}))
    run(group, scenario(2).replace(**{"strategy.name": "pipeline", "strategy.collectives": "nccl"}))
    assert seen == [False, False, False, False, True, True, True, True]
    group.close()


def test_the_mailbox_is_counted() -> None:
    def nbytes(ranks: int, **changes: Any) -> int:
        work = scenario(ranks).replace(**changes)
        return mailbox.mailbox_bytes(work, work.strategy.name)

    assert nbytes(2) == nbytes(1, **{"strategy.name": "dep"}) == 0
    assert nbytes(2, **{"strategy.name": "dep", "strategy.collectives": "nccl"}) == 0
    for ranks in (2, 3, 4, 8, 64):
        place = mailbox.place_bytes(ranks)
        assert place % mailbox.UNIT == 0
        assert place <= mailbox.MOST_PLACE_BYTES
        told = nbytes(ranks, **{"strategy.name": "pipeline"})
        assert told == mailbox.FLAG_BYTES + 2 * (ranks - 1) * place
        assert told <= mailbox.MOST_MAILBOX_BYTES + mailbox.FLAG_BYTES


@pytest.mark.parametrize("ranks", [2, 3])
def test_what_is_created_is_what_is_counted(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_mailboxes, "place_bytes", mailbox.place_bytes)
    group = StandInGroup(ranks, copies=True)
    work = scenario(ranks).replace(**{"strategy.name": "tensor"})  # it keeps no experts where peers reach them
    run(group, work)
    counted = mailbox.mailbox_bytes(work, "tensor")
    assert [device.memory.created_bytes for device in group.devices] == [counted] * ranks
    group.close()
    for device in group.devices:
        device.memory.assert_nothing_left()
