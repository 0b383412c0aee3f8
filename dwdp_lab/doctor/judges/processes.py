"""Findings on what was really started: a notebook's kernel, rank processes, memory shared between them."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import Finding


def judge_kernel(facts: Facts) -> Iterator[Finding]:
    kernel = facts.notebook_kernel
    assert kernel is not None
    name = "a notebook's kernel"
    register = "in the lab's environment: python -m ipykernel install --sys-prefix --name python3"
    if kernel.trouble:
        meaning = "kernels start, but cannot import the lab"
        yield Finding(name, "fail", kernel.trouble, meaning, register, ("notebooks",))
    elif not kernel.same_python:
        yield Finding(
            name,
            "warn",
            f"starts another Python, with dwdp-lab {kernel.lab_version}",
            "a kernel of that name in your home folder comes first: notebooks run in its environment, not in this one",
            f"jupyter kernelspec list, remove the one outside this environment; {register}",
        )
    else:
        yield Finding(name, "ok", f"started, dwdp-lab {kernel.lab_version}", "notebooks run in this environment")


def judge_ranks(facts: Facts) -> Iterator[Finding]:
    ranks = facts.rank_processes
    assert ranks is not None
    name = "rank processes"
    if not ranks.equal:
        yield Finding(
            name,
            "fail",
            "DWDP's output differs from replicated",
            "what ranks compute here cannot be trusted",
            "make unit; then please report it with `dwdp-lab doctor --json -`",
            ("CPU ranks",),
        )
    else:
        yield Finding(
            name,
            "ok",
            f"two started, pulled {ranks.pulled_bytes / 1e6:.1f} MB, equal to replicated bit for bit",
            "strategies run on CPU ranks",
        )


def judge_shared_memory(facts: Facts) -> Iterator[Finding]:
    shared = facts.shared_memory
    assert shared is not None
    name = "memory shared by two processes"
    if not shared.right:
        yield Finding(
            name,
            "fail",
            f"{shared.nbytes} bytes came back wrong",
            "CPU ranks cannot pull weights",
            "run on a plain Linux kernel: some sandboxes only pretend to share memory",
            ("CPU ranks",),
        )
    else:
        yield Finding(name, "ok", f"{shared.nbytes / 2**20:g} MiB there and back", "this is how CPU ranks pull weights")
