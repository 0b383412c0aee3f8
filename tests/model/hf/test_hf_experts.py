"""Stock models of transformers with our experts: the same numbers as transformers' own loop over experts."""

from __future__ import annotations

import copy
import gc
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import FAMILIES, tiny_model, token_ids, transformers_here
from torch import Tensor, nn

from dwdp_lab.model.hf import interface
from dwdp_lab.model.hf.experts_module import experts_modules, is_swiglu, layer_of
from dwdp_lab.model.hf.interface import register_experts, use_hf_experts
from dwdp_lab.scenario.errors import ScenarioError

TYPES = [torch.float32, torch.bfloat16, torch.float16]


def visits(tokens: int, experts: int, top_k: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    ids = torch.rand(tokens, experts, generator=random).argsort(dim=1)[:, :top_k]
    return ids, torch.rand(tokens, top_k, generator=random)


def called(module: nn.Module, implementation: str, *arguments: Tensor) -> Tensor:
    module.config._experts_implementation = implementation
    with torch.inference_mode():
        result: Tensor = module(*arguments)
    return result


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layers_experts_equal_transformers_loop_in_float64(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype)
    module = next(iter(experts_modules(model).values()))
    x = torch.randn(21, 32, generator=torch.Generator().manual_seed(3)).to(dtype)
    ids, weights = visits(21, module.num_experts, 3, seed=4)
    ours = called(module, register_experts(), x, ids, weights.to(dtype))
    assert ours.dtype == dtype
    wide = copy.deepcopy(module).double()
    exact = called(wide, "eager", x.double(), ids, weights.to(dtype).double())
    theirs = called(module, "eager", x, ids, weights.to(dtype))
    off, their_off = ((result.double() - exact).abs().max() for result in (ours, theirs))
    # two products, each of inputs rounded once, and the rounding of what lies between them
    assert off <= 8 * torch.finfo(dtype).eps * exact.abs().max()
    assert off <= 2 * their_off


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_gives_the_same_logits_and_words(family: str) -> None:
    model, ids = tiny_model(family), token_ids(2, 11)
    with torch.inference_mode():
        model.set_experts_implementation("eager")
        logits, words = model(ids).logits, model.generate(ids, max_new_tokens=6, do_sample=False)
        use_hf_experts(model)
        assert {module.config._experts_implementation for module in experts_modules(model).values()} == {"dwdp"}
        torch.testing.assert_close(model(ids).logits, logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(model.generate(ids, max_new_tokens=6, do_sample=False), words)


@given(
    tokens=st.integers(0, 12),
    top_k=st.integers(1, 7),
    nobody=st.floats(0, 1),
    family=st.sampled_from(["qwen3_moe", "gpt_oss"]),
    seed=st.integers(0, 99),
)
def test_an_expert_beyond_the_last_counts_for_nothing(
    tokens: int, top_k: int, nobody: float, family: str, seed: int
) -> None:
    module = next(iter(experts_modules(tiny_model(family, seed=seed)).values()))
    experts = module.num_experts
    ids, weights = visits(tokens, experts, min(top_k, experts), seed)
    away = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed)) < nobody
    x = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(seed))
    marked = called(module, register_experts(), x, torch.where(away, experts, ids), weights)
    silenced = called(module, register_experts(), x, ids, weights.masked_fill(away, 0.0))
    torch.testing.assert_close(marked, silenced, rtol=1e-5, atol=1e-6)


def test_which_experts_the_fused_kernel_takes() -> None:
    found = {family: is_swiglu(next(iter(experts_modules(tiny_model(family)).values()))) for family in FAMILIES}
    assert found == {family: family != "gpt_oss" for family in FAMILIES}


def test_weights_that_change_are_seen() -> None:
    """Also those of a transposed parameter, whose memory is put in another order when it is first used."""
    for family in ("qwen3_moe", "gpt_oss"):
        model, other, ids = tiny_model(family), tiny_model(family, seed=5), token_ids(1, 8)
        use_hf_experts(model)
        with torch.inference_mode():
            model(ids)
        kept = {name: weight.clone() for name, weight in tiny_model(family).state_dict().items()}
        assert all(torch.equal(weight, kept[name]) for name, weight in model.state_dict().items())
        model.load_state_dict(other.state_dict())
        model.to(torch.float64).to(torch.float32)
        other.set_experts_implementation("eager")
        with torch.inference_mode():
            torch.testing.assert_close(model(ids).logits, other(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_model_that_is_let_go_of_is_gone() -> None:
    """Its experts are most of its memory."""
    model = tiny_model("gpt_oss")
    use_hf_experts(model)
    with torch.inference_mode():
        model(token_ids(1, 8))
    weights = [weakref.ref(module.gate_up_proj) for module in experts_modules(model).values()]
    del model
    gc.collect()
    assert not any(weight() is not None for weight in weights)


def test_a_checkpoint_can_be_loaded_with_them(tmp_path: Path) -> None:
    transformers = transformers_here()
    model, ids = tiny_model("qwen3_moe"), token_ids(1, 8)
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation=register_experts())
    use_hf_experts(model)
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_gradient_is_refused() -> None:
    model = tiny_model("qwen3_moe")
    use_hf_experts(model)
    with pytest.raises(RuntimeError, match="for inference, and a gradient is asked for"):
        model(token_ids(1, 4))
    model.requires_grad_(False)
    assert not model(token_ids(1, 4)).logits.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_has_answered_can_be_trained_by_transformers_own(family: str) -> None:
    """Also one whose weights were put in another order when it answered."""
    model = tiny_model(family)
    use_hf_experts(model)
    with torch.inference_mode():
        model(token_ids(1, 8))
    model.set_experts_implementation("grouped_mm")
    model(token_ids(1, 8)).logits.sum().backward()
    weights = [module.down_proj for module in experts_modules(model).values()]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


def test_models_without_experts_are_refused() -> None:
    transformers = transformers_here()
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(ScenarioError, match=r"LlamaForCausalLM.*no experts that transformers' experts interface"):
        use_hf_experts(transformers.LlamaForCausalLM(config))


def test_a_model_that_keeps_its_own_experts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers does so, without a word, where it cannot read a model's source."""
    model = tiny_model("qwen3_moe")
    monkeypatch.setattr(type(model), "set_experts_implementation", lambda *_: None)
    with pytest.raises(ScenarioError, match=r"did not set the experts of Qwen3MoeExperts\. Load it with"):
        use_hf_experts(model)


def test_a_refused_model_is_as_it_was() -> None:
    """Also where transformers would set some of its experts and not others."""
    model = tiny_model("qwen3_moe")
    model.set_experts_implementation("grouped_mm")
    first, *others = experts_modules(model).values()
    for module in others:
        module.config = copy.deepcopy(module.config)
    with pytest.raises(ScenarioError, match="did not set the experts of Qwen3MoeExperts"):
        use_hf_experts(model)
    assert {module.config._experts_implementation for module in (first, *others)} == {"grouped_mm"}


def test_quantised_experts_are_refused() -> None:
    model = tiny_model("qwen3_moe")
    module = next(iter(experts_modules(model).values()))
    module.gate_up_proj = nn.Parameter(module.gate_up_proj.data.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ScenarioError, match=r"Qwen3MoeExperts\.gate_up_proj is torch\.float8_e4m3fn.*bf16"):
        use_hf_experts(model)


@pytest.mark.parametrize(("found", "says"), [(None, "is not installed here"), ("5.7.3", "is of use from 5.8 on")])
def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch, found: str | None, says: str) -> None:
    monkeypatch.setattr(interface, "find_spec", lambda _: found)
    monkeypatch.setattr(interface, "version", lambda _: found)
    with pytest.raises(ScenarioError, match=rf"transformers = .*{says}.*Install it: pip install 'dwdp-lab\[hf\]'"):
        use_hf_experts(nn.Module())


def test_layers_are_told_by_names() -> None:
    assert layer_of("model.layers.12.mlp.experts") == 12
    assert layer_of("layers.0.mlp.experts.3.up_proj.weight") == 0
    with pytest.raises(ScenarioError, match="in no decoder layer"):
        layer_of("model.experts")
