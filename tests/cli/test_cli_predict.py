"""What `dwdp-lab predict` prints for a person: what it read, figures without exponents, what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from at_limit import knows_lasting

from dwdp_lab.cli.main import main
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.paper_data import paper_data

QUICK = ("--tokens", "1024", "--steps", "1")


def _printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["predict", *options]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_what_was_read_of_model_and_workload_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(
        capsys, "--model", "deepseek-r1", "--hardware", "gb200", "--ranks", "2", "--over-ranks", "2", *QUICK
    )
    assert printed.startswith(
        "deepseek-r1: 671 billion parameters, 61 layers (3 of them dense), 256 experts and 1 shared"
    )
    assert (
        "N = 2 on gb200; a rank's pass has 1,024 tokens on average (CV of the ranks 0.00), a request 1,024" in printed
    )


def test_a_fitted_router_skew_is_said_and_another_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "deepseek-r1", "--hardware", "gb200", "--ranks", "2", "--over-ranks", "2", *QUICK)
    fitted = paper_data("setup")["router_skew"]["value"]
    assert f"router_skew: {fitted}, fitted to the paper's Table 1" in _printed(capsys, *options)
    assert "router_skew" not in _printed(capsys, *options, "--router-skew", "0")


def test_settings_that_do_not_fit_are_not_called_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(capsys, "--model", "deepseek-r1", "--ranks", "2", "--over-ranks", "2", *QUICK)
    assert "does not fit; best found in as much memory: L = 128" in printed
    assert "Use more ranks or a smaller format: DWDP needs" in printed


def test_large_figures_have_no_exponents(capsys: pytest.CaptureFixture[str]) -> None:
    """At 2 GB/s a step of DWDP takes more than ten seconds."""
    printed = _printed(
        capsys, "--model", "mixtral-8x7b", "--ranks", "4", "--over-ranks", "4", "--set", "link_gbps=2", *QUICK
    )
    assert "e+0" not in printed


@pytest.mark.parametrize("model", ["tiny", "mixtral-8x7b"])
def test_one_rank_has_nothing_to_pay_for(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(capsys, "--model", model, "--ranks", "1", "--over-ranks", "1", *QUICK)
    assert "one rank has no peers" in printed
    assert "DWDP pays from" not in printed


def test_the_least_crossover_that_is_tried_is_no_exact_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "DWDP pays from 256 tokens per rank and pass, perhaps fewer" in _printed(capsys, "--over-ranks", "2", *QUICK)


def test_an_imbalance_without_tokens_is_refused_beside_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the imbalance of 1,024 tokens per rank, whatever the lengths are."""
    assert main(["predict", "--isl", "8192", "--cv", "0.2"]) == 2
    assert "--cv = '0.2': needs --tokens" in capsys.readouterr().err


def test_where_nothing_is_pulled_no_order_is_praised(capsys: pytest.CaptureFixture[str]) -> None:
    """gpt-oss-120b fits into each H200: with L = E there is no pull that an order or slices could be of."""
    printed = _printed(
        capsys, "--model", "gpt-oss-120b", "--hardware", "h200", "--ranks", "4", "--over-ranks", "4", *QUICK
    )
    assert "best found: L = 128, P = 0, nothing to pull: " in printed
    assert "│ 128 │ 0 │ - │ - │" in printed


def test_little_memory_is_not_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny: 673,792 parameters" in _printed(capsys, "--over-ranks", "2", *QUICK)
    assert "│ 0 │ yes │" not in _printed(capsys, "--over-ranks", "2", *QUICK)


def test_steps_that_last_are_told_of_where_nobody_said_which_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "profile.json"
    file.write_text(knows_lasting(load_hardware("h200")).model_dump_json(exclude_none=True))
    options = ("--hardware", str(file), "--over-ranks", "2", *QUICK)
    printed = _printed(capsys, *options)
    assert "lasting: these are steps on cool GPUs; after 75 ms of full load" in printed
    assert "--physics lasting predicts steps that last" in printed
    lasting = _printed(capsys, *options, "--physics", "lasting")
    assert "strategies: simulated, physics lasting, profile h200 (fitted)" in lasting
    assert "cool GPUs" not in lasting
    assert "cool GPUs" not in _printed(capsys, "--hardware", "h200", "--over-ranks", "2", *QUICK)


def test_a_profile_without_steps_that_last_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--hardware", "h200", "--physics", "lasting", *QUICK]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "hardware = 'h200': the profile says nothing of steps that last" in told
    assert "calibrate this machine on GPU ranks" in told
