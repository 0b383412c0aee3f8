"""Bytes of an expert in the formats it may be kept in; above all those with a scale per output channel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.precision import computed_in, scaled_bytes


def test_qwen3_by_hand() -> None:
    model = read_model({"preset": "qwen3-30b-a3b", "expert_dtype": "fp8_channel"})
    assert model.expert_matrices == (("w13", (1536, 2048)), ("w2", (2048, 768)))
    assert model.expert_bytes == 1536 * 2048 + 4 * 1536 + 2048 * 768 + 4 * 2048 == 4_732_928
    assert 2 * model.expert_bytes < 1.004 * read_model("qwen3-30b-a3b").expert_bytes


@pytest.mark.parametrize(
    ("dtype", "bytes_of_a_block", "params"),
    [
        ("fp32", 4, 1),
        ("bf16", 2, 1),
        ("fp16", 2, 1),
        ("fp8", 128 * 128 + 4, 128 * 128),  # one fp32 scale
        ("mxfp4", 16 + 1, 32),  # one exponent
        ("nvfp4", 8 + 1, 16),  # one e4m3 scale
    ],
)
def test_formats_by_their_blocks(dtype: str, bytes_of_a_block: int, params: int) -> None:
    model = read_model({"preset": "deepseek-r1", "expert_dtype": dtype})
    assert model.expert_params == 3 * 7168 * 2048
    assert model.expert_bytes == 3 * 7168 * 2048 // params * bytes_of_a_block


@given(hidden=st.integers(1, 9000), inner=st.integers(1, 9000))
def test_a_matrix_of_n_rows_and_k_columns_is_n_times_k_plus_4_bytes(hidden: int, inner: int) -> None:
    sizes = {"hidden": hidden, "expert_intermediate": inner, "expert_dtype": "fp8_channel"}
    model = read_model({"preset": "tiny", **sizes})
    assert model.expert_bytes == 2 * inner * (hidden + 4) + hidden * (inner + 4)
    assert model.expert_bytes == model.expert_params + 4 * (2 * inner + hidden)
    assert scaled_bytes(inner, hidden) == inner * hidden + 4 * inner


def test_shared_experts_and_activations_stay_in_the_model_s_type() -> None:
    base = {"preset": "tiny", "dtype": "bf16", "shared_experts": 2}
    model = read_model({**base, "expert_dtype": "fp8_channel"})
    plain = read_model({**base, "expert_dtype": "bf16"})
    assert model.shared_dtype == "bf16"
    assert model.shared_expert_bytes == plain.expert_bytes == plain.shared_expert_bytes
    assert model.activation_bytes == 2.0
    blocks = read_model({**base, "expert_dtype": "fp8"})
    assert (blocks.shared_dtype, blocks.shared_expert_bytes) == ("fp8", blocks.expert_bytes)


def test_a_token_is_sent_with_its_scale() -> None:
    model = read_model({"preset": "qwen3-30b-a3b", "expert_dtype": "fp8_channel"})
    assert model.hidden * model.dispatch_bytes == 2048 + 4


def test_its_products_have_the_rate_of_fp8() -> None:
    assert computed_in("fp8_channel") == "fp8"
    assert [computed_in(each) for each in ("bf16", "fp8", "nvfp4")] == ["bf16", "fp8", "nvfp4"]


@pytest.mark.parametrize("field", ["dtype", "dense_dtype"])
def test_it_is_for_routed_experts_alone(field: str) -> None:
    with pytest.raises(ScenarioError, match=rf"model\.{field} = 'fp8_channel'.*fp8, mxfp4") as caught:
        read_model({"preset": "tiny", field: "fp8_channel"})
    assert caught.value.field == f"model.{field}"
