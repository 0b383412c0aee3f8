"""Triton: one small kernel, compiled for the GPU where there is one, and else stepped through by the interpreter."""

from __future__ import annotations

import os
import shutil
import sysconfig
from typing import NamedTuple

SIZE = 32


class TritonFacts(NamedTuple):
    version: str
    on: str
    """`GPU` or `interpreter`"""
    right: bool
    compiler: bool
    """A C compiler is here, which Triton needs for the launcher of a compiled kernel."""


def probe() -> TritonFacts:
    import torch

    on = "GPU" if torch.cuda.is_available() else "interpreter"
    if on == "interpreter":
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
        # torch may be a CUDA build without a usable driver; the interpreter needs none
    else:
        os.environ.pop("TRITON_INTERPRET", None)
    import triton

    from dwdp_lab.doctor.probes.triton_product import product

    x, y = (torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    device = "cuda" if on == "GPU" else "cpu"
    found = product(x.to(device), y.to(device)).cpu()
    # TF32 on the GPU keeps ten bits
    right = bool(torch.allclose(found, x @ y, rtol=1e-2, atol=1e-1))
    names = (os.environ.get("CC"), "gcc", "clang", (sysconfig.get_config_var("CC") or "").split(" ")[0])
    return TritonFacts(str(triton.__version__), on, right, any(shutil.which(name) for name in names if name))
