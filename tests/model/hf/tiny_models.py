"""Tiny models of transformers' own families with random weights, made from configs alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": None,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 16, "head_dim": 8},
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 48},
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 4, "intermediate_size": 16},
    "deepseek_v3": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 16,
        "intermediate_size": 48,
        "first_k_dense_replace": 1,
        "n_group": 2,
        "topk_group": 1,
        "n_shared_experts": 1,
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    },
    "qwen2_moe": {  # experts in every other layer, and in the last there are none
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "decoder_sparse_step": 2,
    },
    "gpt_oss": {
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "head_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 16,
    },
}
"""By model_type, what its config says beside COMMON."""


def transformers_here() -> Any:
    """transformers 5, or the test is skipped with the reason."""
    reason = "transformers 5 is not installed: pip install 'dwdp-lab[hf]'"
    return pytest.importorskip("transformers", minversion="5", reason=reason)


def tiny_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A model of the family in evaluation mode, with weights large enough that routing is decided."""
    transformers = transformers_here()
    config = transformers.AutoConfig.for_model(family, **(COMMON | FAMILIES[family]), dtype=dtype)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif name.endswith("bias"):  # of gpt-oss
                parameter.normal_(std=0.1)
    return model


def token_ids(sequences: int, length: int, seed: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(2, COMMON["vocab_size"], (sequences, length), generator=random)
