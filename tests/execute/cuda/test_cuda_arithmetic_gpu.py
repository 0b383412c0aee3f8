"""The kernels' arithmetic against plain torch's, both on a real GPU, at the sizes of a real model."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.expert_table import expert_table
from gpu_ranks import NEEDS_GPUS
from torch import Tensor

from dwdp_lab.execute.cuda.compute.choose_arithmetic import arithmetic_on
from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic
from dwdp_lab.execute.cuda.experts.staging import LayerTables
from dwdp_lab.model.rounding import relative_error

pytestmark = NEEDS_GPUS

TOKENS, HIDDEN, INNER, EXPERTS, TOP_K = 777, 2048, 768, 32, 8
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def random(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size, device="cuda").to(dtype)


def alike(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """fp32 products may be rounded to 11 bits before they are summed, as tensor cores do (TF32)."""
    eps = torch.finfo(dtype).eps if dtype != torch.float32 else 2.0**-11
    return relative_error(found, expected) <= 4 * eps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernels_agree_with_torch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kernels, plain = arithmetic_on(torch.device("cuda")), TorchArithmetic()
    x = random(TOKENS, HIDDEN, dtype=dtype)
    weight = 1 + 0.1 * random(HIDDEN, dtype=dtype)
    normed = kernels.norm(x, weight, 1e-6)
    assert alike(normed, plain.norm(x, weight, 1e-6), dtype)
    added = kernels.add_norm(x, -0.5 * x, weight, 1e-6)
    expected = plain.add_norm(x, -0.5 * x, weight, 1e-6)
    assert all(alike(*each, dtype) for each in zip(added, expected, strict=True))
    turns = random(TOKENS, 64)
    whole = random(TOKENS, 40, 128, dtype=dtype)
    again = whole.clone()
    kernels.rotate(whole[:, :36], turns.cos(), turns.sin())
    plain.rotate(again[:, :36], turns.cos(), turns.sin())
    assert alike(whole, again, dtype)
    router = random(EXPERTS, HIDDEN, dtype=dtype) / HIDDEN**0.5
    logits = plain.logits(x, router)
    assert alike(kernels.logits(x, router), logits, torch.float32)
    assert kernels.logits(x, router).dtype == torch.float32
    bias = torch.zeros(EXPERTS, device="cuda")
    ids, weights = kernels.choose(logits, bias, TOP_K, True, dtype)
    expected = plain.choose(logits, bias, TOP_K, True, dtype)
    assert torch.equal(ids, expected[0])
    assert alike(weights, expected[1], dtype)
    groups = torch.where(ids % 3 > 0, ids, -1)
    mine, theirs = kernels.sort(groups, EXPERTS), plain.sort(groups, EXPERTS)
    rows = int(theirs.offsets[-1])
    assert torch.equal(mine.offsets, theirs.offsets)
    assert torch.equal(mine.row_of_visit, theirs.row_of_visit)
    assert torch.equal(mine.token_of_row[:rows], theirs.token_of_row[:rows])
    w13 = random(EXPERTS, 2 * INNER, HIDDEN, dtype=dtype) / HIDDEN**0.5
    w2 = random(EXPERTS, HIDDEN, INNER, dtype=dtype) / INNER**0.5
    tables = LayerTables(expert_table(w13), expert_table(w2))
    found = kernels.experts(x, groups, weights, tables, rows)
    assert alike(found, plain.experts(x, groups, weights, tables, rows), dtype)
    assert torch.equal(found, kernels.beside_collectives().experts(x, groups, weights, tables, rows))
    sorted_rows = random(rows, HIDDEN, dtype=dtype)
    assert alike(
        kernels.combine(sorted_rows, mine.row_of_visit, weights),
        plain.combine(sorted_rows, mine.row_of_visit, weights),
        dtype,
    )
    summed = kernels.combine_norm(sorted_rows, mine.row_of_visit, weights, weight, 1e-6, normed, x)
    expected = plain.combine_norm(sorted_rows, mine.row_of_visit, weights, weight, 1e-6, normed, x)
    assert all(alike(*each, dtype) for each in zip(summed, expected, strict=True))
    assert torch.equal(summed[1], kernels.norm(summed[0], weight, 1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ranks", [2, 3])
def test_masked_rows_agree_with_torch(ranks: int, dtype: torch.dtype) -> None:
    """Bit for bit, with NaN where rows are left out."""
    torch.manual_seed(0)
    kernels, plain = arithmetic_on(torch.device("cuda")), TorchArithmetic()
    ids = torch.randint(EXPERTS + 1, (TOKENS, 2), device="cuda", dtype=torch.int32)
    owners = torch.arange(EXPERTS, device="cuda", dtype=torch.int32) * ranks // EXPERTS
    visited = kernels.visited_ranks(ids, owners, ranks)
    assert torch.equal(visited, plain.visited_ranks(ids, owners, ranks))
    assert not visited.all()
    parts = torch.where(visited[:, :, None], random(ranks, TOKENS, HIDDEN, dtype=dtype), torch.nan)
    whole = parts.nbytes // ranks
    for first, last in ((0, whole), (256, whole - 1024), (5 * whole // 8 // 256 * 256, whole)):
        targets = [torch.full((last - first,), 0xAB, dtype=torch.uint8, device="cuda") for _ in range(2)]
        for put, target in zip((kernels.put_rows, plain.put_rows), targets, strict=True):
            put(parts[1], visited[1], first, target)
        assert torch.equal(*targets)
        begin, end = first // dtype.itemsize, last // dtype.itemsize
        pieces = [part.view(-1)[begin:end] for part in parts]
        sums = [torch.full((end - begin,), torch.nan, dtype=dtype, device="cuda") for _ in range(2)]
        for add, out in zip((kernels.add_rows, plain.add_rows), sums, strict=True):
            add(pieces, visited, HIDDEN, begin, out)
        assert not sums[0].isnan().any()
        assert torch.equal(*sums)
