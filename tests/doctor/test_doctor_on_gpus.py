"""The doctor on a machine with NVIDIA GPUs: what it says of them when all is well."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

GOOD = {"torch and CUDA", "copies between GPUs", "NCCL's first collective", "Triton"}


def test_good_gpus_are_found_good() -> None:
    # in a Python of its own, which must stay without torch and so without a CUDA context
    code = (
        "import json, sys; from dwdp_lab import check_machine; found = check_machine(100.0).to_dict(); "
        "print(json.dumps([found, 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figures, loaded = json.loads(done.stdout)
    assert not loaded
    levels = {finding["name"]: finding["level"] for finding in figures["findings"]}
    wanted = GOOD | ({"exported GPU memory"} if importlib.util.find_spec("cuda.bindings") else set())
    assert {name: levels.get(name) for name in wanted} == dict.fromkeys(wanted, "ok")
    assert figures["carries"]["GPU kernels"]
