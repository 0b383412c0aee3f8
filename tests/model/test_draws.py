"""Draws by coordinate: the same everywhere, and random enough to stand for weights."""

from __future__ import annotations

import math

import pytest
import torch

from dwdp_lab.model import draws
from dwdp_lab.model.draws import bits_at, stream, uniform, uniform_at


def reference_bits(counter: int, first: int, second: int) -> int:
    """The same hash in Python's unbounded integers."""

    def mix(x: int) -> int:
        x = ((x ^ x >> 16) * 0x7FEB352D) % 2**32
        x = ((x ^ x >> 15) * 0x846CA68B) % 2**32
        return x ^ x >> 16

    return mix(mix((counter + first) % 2**32) ^ second % 2**32)


def test_bits_equal_plain_integer_arithmetic() -> None:
    source = stream("reference", 7)
    counters = [0, 1, 2, 12345, 2**31 - 1, -1, -(2**31)]
    drawn = (bits_at(torch.tensor(counters, dtype=torch.int32), source).long() & 0xFFFFFFFF).tolist()
    assert drawn == [reference_bits(counter % 2**32, *source) for counter in counters]


def test_values_are_the_scaled_bits() -> None:
    assert uniform((3,), stream("expert", 0, 1, 2, "w13"), 1.0).tolist() == pytest.approx(
        [expected(0), expected(1), expected(2)], abs=1e-7
    )


def expected(counter: int) -> float:
    bits = reference_bits(counter, *stream("expert", 0, 1, 2, "w13"))
    signed = bits - 2**32 if bits >= 2**31 else bits
    return ((signed >> 8) + 0.5) * math.sqrt(3) / 2**23


def test_a_tensor_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = uniform((1000,), stream(1), 0.5)
    monkeypatch.setattr(draws, "_CPU_BLOCK", 64)
    assert torch.equal(uniform((1000,), stream(1), 0.5), whole)
    assert torch.equal(uniform((100,), stream(1), 0.5), whole[:100])
    assert torch.equal(uniform((10, 100), stream(1), 0.5).flatten(), whole)


def test_mean_deviation_and_range() -> None:
    values = uniform((200, 1000), stream("moments"), 0.25).double()
    assert abs(values.mean()) < 4 * 0.25 / math.sqrt(values.numel())
    assert float(values.std()) == pytest.approx(0.25, rel=0.01)
    assert float(values.abs().max()) <= 0.25 * math.sqrt(3)
    assert float(values.abs().min()) > 0


def test_values_do_not_repeat_within_or_between_streams() -> None:
    a, b = (uniform((1 << 16,), stream("expert", 0, layer, 0), 1.0).double() for layer in (0, 1))
    limit = 5 / math.sqrt(len(a))
    assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1]) < limit
    for lag in (1, 2, 64, 128):
        assert abs(torch.corrcoef(torch.stack((a[:-lag], a[lag:])))[0, 1]) < limit


def test_other_types_are_the_rounded_values() -> None:
    wide = uniform((500,), stream(3), 1.0)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(uniform((500,), stream(3), 1.0, dtype), wide.to(dtype))


def test_empty_tensors() -> None:
    assert uniform((0, 4), stream(0), 1.0).shape == (0, 4)
    assert uniform_at(torch.empty(0, dtype=torch.int32), stream(0), 1.0).shape == (0,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cpu_and_cuda_agree_bit_for_bit() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        ours = uniform((300, 1001), stream("device"), 0.3, dtype)
        assert torch.equal(uniform((300, 1001), stream("device"), 0.3, dtype, "cuda").cpu(), ours)
