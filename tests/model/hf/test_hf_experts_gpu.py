"""Stock models of transformers on a GPU with our kernels: as exact as transformers' own paths, and repeatable."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from tiny_models import FAMILIES, tiny_model, token_ids

from dwdp_lab.model.hf.experts_module import experts_modules
from dwdp_lab.model.hf.interface import register_experts, use_hf_experts

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    pytest.importorskip("triton")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_layers_experts_equal_transformers_loop_in_float64(family: str, dtype: torch.dtype) -> None:
    module = next(iter(experts_modules(tiny_model(family, dtype)).values())).cuda()
    random = torch.Generator().manual_seed(3)
    x = torch.randn(301, 32, generator=random).to("cuda", dtype)
    ids = torch.rand(301, module.num_experts, generator=random).argsort(dim=1)[:, :3].cuda()
    weights = torch.rand(301, 3, generator=random).to("cuda", dtype)
    wide = copy.deepcopy(module).double()
    module.config._experts_implementation = register_experts()
    ours = module(x, ids, weights)
    assert torch.equal(module(x, ids, weights), ours)
    wide.config._experts_implementation = "eager"
    exact = wide(x.double(), ids, weights.double())
    eps = max(torch.finfo(dtype).eps, 2**-20)  # fast exponentials are good for no more
    assert (ours.double() - exact).abs().max() <= 8 * eps * exact.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_model_that_moved_to_the_gpu_says_the_same(family: str) -> None:
    model, ids = tiny_model(family), token_ids(2, 33)
    use_hf_experts(model)
    on_cpu = model(ids).logits
    on_gpu = model.cuda()(ids.cuda()).logits.cpu()
    error = (on_gpu - on_cpu).norm() / on_cpu.norm()
    assert error <= 1e-4
    assert model.generate(ids.cuda(), max_new_tokens=3, do_sample=False).shape == (2, 36)


def test_models_that_are_let_go_of_give_their_memory_back() -> None:
    allocated = []
    for seed in range(3):
        model = tiny_model("gpt_oss", seed=seed).cuda()
        use_hf_experts(model)
        with torch.inference_mode():
            model(token_ids(2, 33).cuda())
        del model
        gc.collect()
        torch.cuda.synchronize()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[1] == allocated[2]  # the first run leaves the libraries' workspaces
