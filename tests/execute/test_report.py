"""What ranks report of their outputs."""

from __future__ import annotations

import hashlib

import torch

from dwdp_lab.execute.report import sha256_of


def test_outputs_are_hashed_as_one_run_of_bytes_whatever_their_shape_and_layout() -> None:
    outputs = [
        torch.arange(12, dtype=torch.float32).reshape(3, 4),
        torch.empty(0, 4),  # a step that was sat out
        torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).t(),
    ]
    whole = b"".join(bytes(one.contiguous().view(torch.uint8).flatten().tolist()) for one in outputs)
    assert sha256_of(outputs) == hashlib.sha256(whole).hexdigest()
    assert sha256_of(outputs[::-1]) != sha256_of(outputs)
    assert sha256_of([]) == hashlib.sha256(b"").hexdigest()
