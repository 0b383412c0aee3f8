"""Which profile stands for the machine that ranks of a notebook run on."""

from __future__ import annotations

import pytest

from dwdp_lab.simulate.hardware import load_hardware, profile_for
from dwdp_lab.teach.this_machine import profile_of


@pytest.mark.parametrize(
    ("device", "profile"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("2 x NVIDIA H200 NVL", "h200"),
        ("NVIDIA GH200 480GB", "h100"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "h100"),
        ("NVIDIA RTX A6000", "h100"),
    ],
)
def test_a_gpu_has_the_profile_that_its_name_tells(device: str, profile: str) -> None:
    assert profile_of("cuda", device) == profile
    assert load_hardware(profile).name == profile


def test_a_gpu_without_a_profile_has_no_data_sheet_here() -> None:
    for device in ("NVIDIA GH200 480GB", "NVIDIA GB300", "NVIDIA GeForce RTX 4090 Laptop GPU"):
        assert profile_for(device) is None


def test_every_cpu_is_a_laptop() -> None:
    assert profile_of("cpu", "Some H100 of a CPU") == "laptop"
