"""What `dwdp-lab calibrate` prints: shares of what, so that more than all of it does not look like a mistake."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from at_limit import knows_lasting
from rich.console import Console

from dwdp_lab.cli.calibrate import show
from dwdp_lab.measure.calibration.fit_rates import Rate
from dwdp_lab.simulate.hardware import Hardware, load_hardware

if TYPE_CHECKING:
    from dwdp_lab.measure.calibration.calibrate import Calibrated


H100 = load_hardware("h100")


def _printed(rates: dict[str, Rate], spread: float | None = 0.0, profile: Hardware = H100) -> str:
    assert profile.reached is not None
    share = profile.reached.efficiency["memory"].model_copy(update={"value": 1.41})
    reached = profile.reached.model_copy(update={"efficiency": {**profile.reached.efficiency, "memory": share}})
    found = SimpleNamespace(
        profile=profile.model_copy(update={"reached": reached}),
        found=SimpleNamespace(rates=rates),
        samples=SimpleNamespace(launch_us=2.0, peaks=SimpleNamespace(tflops={"bf16": 989.0})),
        errors=lambda: {"compute": 0.1},
        spread=spread,
        seconds=10.0,
    )
    printed = StringIO()
    show(Console(file=printed, width=110), cast("Calibrated", found), Path("profile.json"))
    return printed.getvalue()


def test_shares_say_of_what_they_are() -> None:
    printed = _printed({})
    rows = printed.splitlines()
    assert any("unit memory" in row and "141 % of the copy's rate" in row for row in rows)
    assert any("unit gemm" in row and "78.8 % of the best product" in row for row in rows)
    assert "of peak" not in printed
    assert any("best product, bf16" in row and "989 TFLOP/s" in row for row in rows)
    assert "fp8" not in printed, "the profile has a rate of it that nobody reached"


def test_a_rate_that_only_operations_tell_is_shown_as_theirs() -> None:
    rows = _printed({"fp8": Rate(1070.0, 4)}).splitlines()
    assert any("experts in fp8" in row and "1070 TFLOP/s" in row for row in rows)


def test_what_lasts_is_shown_where_it_was_measured() -> None:
    rows = _printed({}, profile=knows_lasting(H100, {"experts": 1.128}, 1.035, 87.65)).splitlines()
    assert any("experts in steps that last" in row and "1.128 times as long" in row for row in rows)
    assert any("beside a pull in steps that last" in row and "1.035 times as long again" in row for row in rows)
    assert any("steps last after" in row and "87.7 ms of full load" in row for row in rows)
    assert "again" not in _printed({}, profile=knows_lasting(H100, copies=None))
    assert "last" not in _printed({})


def test_a_single_pass_does_not_say_that_passes_agree() -> None:
    assert "passes differ by 12 %" in _printed({}, spread=0.12)
    printed = _printed({}, spread=None)
    assert "a single pass" in printed
    assert "differ" not in printed
