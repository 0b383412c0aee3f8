"""Good machines, and which checks a machine gets."""

from __future__ import annotations

from machines import judged, laptop, two_gpus, without

from dwdp_lab.doctor.checks import ROUNDS
from dwdp_lab.doctor.report import Report


def test_a_good_laptop_lacks_nothing_but_gpus() -> None:
    assert [finding.name for finding in judged(laptop()) if finding.level != "ok"] == ["GPUs"]
    assert [form for form, runs in Report(tuple(judged(laptop())), 1.0).carries.items() if not runs] == [
        "GPU kernels",
        "GPU ranks",
    ]
    assert Report(tuple(judged(laptop())), 1.0).usable


def test_two_good_gpus_carry_everything() -> None:
    assert [finding for finding in judged(two_gpus()) if finding.level != "ok"] == []
    assert all(Report(tuple(judged(two_gpus())), 1.0).carries.values())


def test_every_finding_has_a_name_of_its_own_and_says_what_it_means() -> None:
    for machine in (laptop, two_gpus):
        findings = judged(machine())
        names = [finding.name for finding in findings if finding.name != "kind of GPU"]
        assert len(names) == len(set(names))
        assert all(finding.meaning and finding.found for finding in findings)


def test_without_torch_nothing_is_started_that_needs_it() -> None:
    facts = without(laptop(), "torch", "triton")
    wanted = {check.probe for checks in ROUNDS for check in checks if check.wanted(facts)}
    assert wanted == {"host", "packages", "nvidia", "notebook_kernel"}


def test_gpu_checks_are_for_machines_whose_torch_sees_gpus() -> None:
    gpu_checks = {"gpu_pairs", "peer_memory", "nccl"}
    for machine, expected in ((laptop, set()), (two_gpus, gpu_checks)):
        facts = machine()
        assert {check.probe for check in ROUNDS[2] if check.wanted(facts)} == expected
    assert {check.probe for check in ROUNDS[2] if check.wanted(without(two_gpus(), "cuda-bindings"))} == {
        "gpu_pairs",
        "nccl",
    }
