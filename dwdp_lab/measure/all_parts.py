"""What `bench all` measures, in this order: one command of the lab each, and the file it leaves. No torch."""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.measure.transfers.transfers import MachineName

SHARING = 4
"""Ranks that contention is measured with where there are fewer devices: three readers of one source."""
VIEWS = "dwdp:weight_view=merged,dwdp:weight_view=composite"
IN_TURN = "dwdp:cross_step=true:slice_bytes=4MiB:peer_order=interleaved"
EXPERTS = 128
"""Of a layer of the real model."""
SLICES = "dwdp:slice_bytes=4MiB,dwdp:slice_bytes=1MiB"


class Part(NamedTuple):
    """`words` follow `dwdp-lab`; the command is run in the folder that keeps the files."""

    name: str
    words: tuple[str, ...]


def parts(machine: MachineName, ranks: int, quick: bool = False) -> tuple[Part, ...]:
    """All parts, what others need first; `quick` tries each out in seconds, and its figures are worth nothing."""
    where = ("--machine", machine, "--ranks", str(ranks))
    copies, grid, variants, timelines, contention = (_cpu if machine == "cpu" or quick else _cuda)(ranks)
    few = ("--repeats", "1") if quick else ()
    many = ("--machine", machine, "--ranks", str(max(ranks, SHARING)))
    hardware, drawn = ("--hardware", "profile.json"), ("--picture", "crossover.svg")
    found = [
        Part("doctor", ("doctor", "--json", "doctor.json")),
        Part("copies", ("bench", "copies", *where, *copies, *few, "--json", "copies.json")),
        Part(
            "profile",
            ("calibrate", *where, *(["--quick"] if quick else []), "--out", "profile.json", "--json", "samples.json"),
        ),
        Part("grid", ("bench", "strategies", *where, *grid, *few, *hardware, *drawn, "--json", "grid.json")),
        Part("variants", ("bench", "strategies", *where, *variants, *few, *hardware, "--json", "variants.json")),
        Part(
            "timelines", ("run", *where, *timelines, "--strategies", "replicated,dep,dwdp", "--save", "timelines.json")
        ),
        Part("contention", ("bench", "contention", *many, *contention, *few, "--json", "contention.json")),
        Part(
            "errors",
            ("bench", "compare", "grid.json", "variants.json", "--picture", "errors.svg", "--json", "errors.json"),
        ),
    ]
    if machine == "cuda":
        kernels = ("--only", "layers", "--repeats", "3") if quick else ()
        found.append(Part("kernels", ("bench", "kernels", *kernels, "--json", "kernels.json")))
    return tuple(found)


def _cuda(ranks: int) -> tuple[tuple[str, ...], ...]:
    """Eight layers of a real model. Steps follow one another, as in a server, so DWDP pulls across them."""
    model = ("--model", "qwen3-30b-a3b", "--set", "model.layers=8")
    variants = (
        f"replicated,dep,dwdp,dwdp:cross_step=true,dwdp:cross_step=true:overlap=false,{VIEWS},{SLICES},weight_gather"
    )
    imbalanced = "workload={kind: cv, tokens_per_rank: 16384, cv: 0.2, steps: 2}"
    tokens, grid = "1024,2048,4096,8192,16384,32768", "replicated,dep,dwdp:cross_step=true"
    if ranks > 2:  # there is more to pull than two ranks have, and there are readers to meet at a source
        tokens = "4096,8192,16384,32768,65536"
        twice = 2 * -(-EXPERTS // ranks)
        grid += f",{IN_TURN},dwdp:cross_step=true:local_experts={twice}"
    return (
        (),
        (
            *model,
            *("--repeats", "3", "--set", "workload.steps=3", "--tokens", tokens, "--cv", "0,0.2,0.4"),
            *("--strategies", grid),
        ),
        (
            *model,
            *("--repeats", "3", "--set", "workload.steps=6", "--tokens", "16384", "--cv", "0"),
            *("--strategies", variants),
        ),
        (*model, "--set", imbalanced, "--set", "strategy.cross_step=true"),
        ("--share", "256MiB", *(() if ranks >= SHARING else ("--repeats", "3"))),
    )


def _cpu(ranks: int) -> tuple[tuple[str, ...], ...]:
    """A model that a laptop's cores get through in a minute, at a paced link where both sides of the crossover show."""
    del ranks
    small = ("--links", "none,0.5")
    variants = (
        f"replicated,dep,dwdp,dwdp:cross_step=true,dwdp:overlap=false,{VIEWS},dwdp:slice_bytes=4KiB,weight_gather"
    )
    return (
        ("--largest", "64MiB", "--share", "8MiB"),
        ("--tokens", "64,256,1024", "--cv", "0,0.3", *small, "--strategies", "replicated,dep,dwdp:cross_step=true"),
        ("--tokens", "256", "--cv", "0", "--set", "workload.steps=3", "--strategies", variants),
        ("--set", "workload={kind: cv, tokens_per_rank: 256, cv: 0.3, steps: 2}"),
        ("--share", "2MiB"),
    )
