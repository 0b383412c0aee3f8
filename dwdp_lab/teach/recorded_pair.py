"""What `bench strategies` measured on two GPUs and data/measured/ keeps: DWDP over DEP, and what pulls cost compute."""

from __future__ import annotations

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.runs.over_dep import over_best_dep
from dwdp_lab.measure.runs.over_replicated import OverReplicated, over_replicated
from dwdp_lab.measure.runs.recorded_runs import Run, RunsFile, read_runs
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.teach.recorded import recorded
from dwdp_lab.teach.shown import Text, table
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.measured_crossover import measured_crossover

TOKENS, IMBALANCE, HALF = "h200-pair-tokens", "h200-pair-imbalance", "h200-pair-fp8"
DISTANCE, CALIBRATION = "h200-pair-distance", "h200-pair-calibration"


def recorded_crossover() -> Chart:
    """DWDP's tokens/s over the best DEP's on two H200s, and what the latest profile calibrated there predicts."""
    tokens, imbalance = read_runs(TOKENS), read_runs(IMBALANCE)
    latest = Hardware.model_validate(recorded(CALIBRATION)["profile"])
    return measured_crossover(tokens.model_copy(update={"runs": [*tokens.runs, *imbalance.runs], "hardware": latest}))


def recorded_interference(file: RunsFile | None = None) -> Text:
    """DWDP's times over those of `replicated`, by tokens per rank, with the clocks and the power of both."""
    file = file or read_runs(TOKENS)
    usual = {run.cell: run.figures for run in file.runs if run.scenario["strategy"]["name"] == "replicated"}
    rows = [(_tokens(run), *_times(run, over), *_sensors(usual[run.cell], run.figures)) for run, over in _dwdp(file)]
    header = ("tokens per rank", "step", "attention", "experts", "exposed copy", "MHz", "beside", "W", "beside")
    words = "dwdp over replicated; clocks and power of replicated, and beside them dwdp's"
    return Text(f"{file.shown_provenance}\n{words}\n\n{table(header, rows)}")


def recorded_distance() -> Text:
    """DWDP over the best DEP, and its times over those of `replicated`, by the moment from which a pull may run."""
    file = read_runs(DISTANCE)
    over_dep = {id(ratio.run): ratio.over_dep for ratio in over_best_dep(file.runs)}
    rows = [(_tokens(run), *_pulls(run), _digits(over_dep[id(run)]), *_times(run, over)) for run, over in _dwdp(file)]
    header = ("tokens per rank", "pulls start with", "in copies of", "/ DEP", "step", "attention", "experts", "exposed")
    (steps,) = {run.scenario["workload"]["steps"] for run in file.runs}
    words = f"{steps} steps in a row: dwdp's tokens/s over the best DEP's, and its times over those of replicated"
    clocks = f"SM clocks in MHz, dwdp's with pulls that start with attention\n\n{_clocks(file)}"
    return Text(f"{file.shown_provenance}\n{words}\n\n{table(header, rows)}\n\n{clocks}")


def _clocks(file: RunsFile) -> str:
    """By tokens per rank the clock of each strategy's first run."""
    found: dict[str, dict[str, str]] = {}
    for run in file.runs:
        found.setdefault(_tokens(run), {}).setdefault(run.scenario["strategy"]["name"], _sensors(run.figures)[0])
    names = tuple(next(iter(found.values())))
    return table(("tokens per rank", *names), [(tokens, *map(of.get, names)) for tokens, of in found.items()])


def recorded_bytes() -> Text:
    """DWDP with experts in bf16, and in e4m3, which are half as many bytes to pull: over DEP, and over `replicated`."""
    whole, half = read_runs(TOKENS), read_runs(HALF)
    of_whole, of_half = _gains(whole), _gains(half)
    rows = [
        (
            f"{tokens:,}",
            *(f"{value:.3f}" for pair in zip(of_whole[tokens], of_half[tokens], strict=True) for value in pair),
        )
        for tokens in sorted(of_whole.keys() & of_half.keys())
    ]
    header = ("tokens per rank", "/ DEP, bf16", "e4m3", "/ replicated, bf16", "e4m3")
    words = "dwdp's tokens/s over the best DEP's, and its step over replicated's, each with experts of the same type"
    return Text(f"{half.shown_provenance}\n{words}\n\n{table(header, rows)}")


def _gains(file: RunsFile) -> dict[int, tuple[float, float]]:
    """By tokens per rank: DWDP's tokens/s over the best DEP's, its step over that of `replicated`."""
    found = {}
    for ratio, over in zip(over_best_dep(file.runs), over_replicated(file.runs), strict=True):
        if ratio.run.scenario["strategy"]["name"] == "dwdp" and ratio.over_dep is not None and over is not None:
            found[ratio.run.scenario["workload"]["tokens_per_rank"]] = (ratio.over_dep, over.step)
    return found


def _dwdp(file: RunsFile) -> list[tuple[Run, OverReplicated]]:
    """Every run of DWDP beside one of `replicated`."""
    pairs = zip(file.runs, over_replicated(file.runs), strict=True)
    return [(run, over) for run, over in pairs if over and run.scenario["strategy"]["name"] == "dwdp"]


def _tokens(run: Run) -> str:
    return f"{run.scenario['workload']['tokens_per_rank']:,}"


def _digits(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _pulls(run: Run) -> tuple[str, str]:
    """From where on a layer's pull may run beside the layer before, and how large its copies are at most."""
    strategy = run.scenario["strategy"]
    early = strategy["prefetch_distance"] in (None, strategy["slots"])
    copies = strategy["slice_bytes"]
    return "attention" if early else "experts", "a share" if copies is None else f"{copies >> 20} MiB"


def _times(run: Run, over: OverReplicated) -> tuple[str, ...]:
    """Step, attention and experts over those of `replicated`, and the share of the step that is exposed copy."""
    times = (over.step, over.kinds["attention"], over.kinds["experts"])
    return *map(_digits, times), f"{100 * run.figures.exposed_copy_ms / run.figures.step_ms:.1f} %"


def _sensors(*both: Figures) -> tuple[str, ...]:
    """Clock of one and of the other, then the power of both; a dash where nobody looked."""
    clocks = (None if one.gpu is None else one.gpu.sm_mhz for one in both)
    powers = (None if one.gpu is None else one.gpu.power_w for one in both)
    return tuple("-" if value is None else f"{value:.0f}" for value in (*clocks, *powers))
