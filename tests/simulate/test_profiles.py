"""Hardware profiles: complete, sourced, and machines that are joined one to one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.precision import FORMATS
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.physics import BOUND
from dwdp_lab.simulate.predict import physics_for

NAMES = tuple(shipped("hardware", ".json"))


def test_the_promised_profiles_ship() -> None:
    assert set(NAMES) >= {"gb200", "h100", "h200", "b200", "mi300x", "mi355x", "laptop"}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_makes_sense(name: str) -> None:
    profile = load_hardware(name)
    assert profile.name == name
    assert set(profile.tflops) == set(FORMATS)
    assert profile.tflops["fp32"].value <= profile.tflops["bf16"].value <= profile.tflops["fp8"].value
    assert profile.hbm_gbps.value >= profile.link_gbps.value
    numbers = [*profile.tflops.values(), profile.hbm_gbps, profile.memory_gb, profile.link_gbps]
    reached = profile.reached
    assert (reached is None) == (profile.provenance == "limit")
    if reached is not None:
        shares = [*reached.efficiency.values(), reached.link, reached.collective]
        assert all(0 < number.value <= 1 for number in shares)
        assert all(1 <= number.value < 2 for number in reached.copy_slowdown.values())
        assert set(reached.efficiency) == {"gemm", "grouped_gemm", "attention", "activations", "memory"}
        numbers += [*shares, *reached.copy_slowdown.values()]
    assert all(len(number.source) > 20 for number in numbers)


def test_what_is_reached_says_how_it_is_known() -> None:
    fitted, measured, taken = (load_hardware(name) for name in ("gb200", "h100", "h200"))
    assert (fitted.provenance, measured.provenance, taken.provenance) == ("fitted", "calibrated", "fitted")
    assert fitted.reached is not None
    assert measured.reached is not None
    assert taken.reached is not None
    assert "Table 1" in fitted.reached.link.source
    assert "2 x H100" in measured.reached.link.source
    assert "H100" in taken.reached.link.source
    assert taken.reached.link.value == measured.reached.link.value
    assert "Table 7" in fitted.reached.copy_slowdown["attention"].source


def test_data_sheets_alone_give_the_bound() -> None:
    assert physics_for(load_hardware("mi300x")) is BOUND
    assert physics_for(load_hardware("h100")).interference


def test_on_a_mesh_one_peer_after_the_other_uses_one_link_of_seven() -> None:
    """8 MI300X are joined one to one: only slices that read all peers at once fill a rank's seven links."""
    profile = load_hardware("mi300x")
    scenario = Scenario.create(
        model={"preset": "mixtral-8x7b", "layers": 4}, group={"ranks": 8}, workload={"cv": 0.0}, hardware="mi300x"
    )
    serial = outcome(scenario, profile, BOUND).pull_ms
    sliced = scenario.replace(**{"strategy.peer_order": "interleaved", "strategy.slice_bytes": "1MiB"})
    assert serial / outcome(sliced, profile, BOUND).pull_ms == pytest.approx(7, rel=1e-6)
    nbytes = 4 * 7 * scenario.model.expert_bytes
    assert serial == pytest.approx(nbytes / 64e6, rel=1e-6)


def test_a_collective_on_a_mesh_waits_for_its_busiest_pair() -> None:
    scenario = Scenario.create(
        model="mixtral-8x7b",
        group={"ranks": 2},
        workload={"cv": 0.0},
        strategy={"name": "dep", "dep_form": "all_gather"},
    )
    mesh, switch = (outcome(scenario, load_hardware(name), BOUND).metrics for name in ("mi300x", "h100"))
    assert mesh.communication_ms / switch.communication_ms == pytest.approx(450 / 64, rel=1e-6)


def test_what_calibrate_wrote_as_json_is_read_for_its_profile(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    kept = {"profile": load_hardware("h200").model_dump(mode="json", exclude_none=True), "seconds": 88.0}
    file.write_text(json.dumps(kept))
    assert load_hardware(str(file)) == load_hardware("h200")
    del kept["profile"]["memory_gb"]
    file.write_text(json.dumps(kept))
    with pytest.raises(ScenarioError, match=r"memory_gb"):
        load_hardware(str(file))


def test_a_file_that_holds_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    for text, says in (
        ("[1]", r"needs a JSON object\. Begin with a file of data/hardware/"),
        ("{", "is not JSON"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ScenarioError, match=rf"(?s)^hardware = '.*{says}"):
            load_hardware(str(file))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_no_number_of_a_profile_is_nought_or_less(value: float, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    profile = load_hardware("h200").model_dump(mode="json", exclude_none=True)
    profile["reached"]["link"]["value"] = value
    file.write_text(json.dumps(profile))
    with pytest.raises(ScenarioError, match=rf"reached\.link\.value = {value:.1f}: must be a number above 0"):
        load_hardware(str(file))


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"^hardware = 'mi300': .*Did you mean 'mi300x'"):
        load_hardware("mi300")
    with pytest.raises(ScenarioError, match="Did you mean 'h200'"):
        load_hardware("H200")
    with pytest.raises(ScenarioError, match="`dwdp-lab calibrate` makes one"):
        load_hardware("rubin")


def test_a_model_given_as_a_profile_is_told_what_a_profile_has(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"hidden_size": 4096}')
    with pytest.raises(ScenarioError, match=r"hidden_size = 4096: no such field; the fields of a hardware profile are"):
        load_hardware(str(file))
