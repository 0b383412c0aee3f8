from __future__ import annotations

import os

import pytest
import torch

from dwdp_lab.execute.cpu.shared_memory import PAGE, Mapping, copy_bytes, shared_block, whole_pages


def test_two_mappings_of_one_block_see_the_same_bytes() -> None:
    fd = shared_block(100)
    writer, reader = Mapping(fd, 100), Mapping(fd, 100, writable=False)
    os.close(fd)
    writer.tensor(8, (5, 2), torch.int32).copy_(torch.arange(10).view(5, 2))
    assert reader.tensor(8, (5, 2), torch.int32).tolist() == torch.arange(10).view(5, 2).tolist()
    copy_bytes(writer.address + 60, reader.address + 8, 8)
    assert writer.tensor(60, (2,), torch.int32).tolist() == [0, 1]
    writer.close()
    reader.close()


def test_replaced_pages_show_the_other_block_and_the_rest_stays() -> None:
    base, other = shared_block(3 * PAGE), shared_block(2 * PAGE)
    view, source = Mapping(base, 3 * PAGE), Mapping(other, 2 * PAGE)
    view.tensor(0, (3 * PAGE,), torch.uint8).fill_(1)
    source.tensor(0, (2 * PAGE,), torch.uint8).copy_(torch.arange(2 * PAGE) // PAGE + 5)
    view.replace(PAGE, PAGE, other, PAGE, writable=False)
    assert view.tensor(0, (3 * PAGE,), torch.uint8).view(3, PAGE).float().mean(1).tolist() == [1, 6, 1]
    source.tensor(PAGE, (1,), torch.uint8).fill_(9)
    assert view.tensor(PAGE, (2,), torch.uint8).tolist() == [9, 6]
    for mapping, fd in ((view, base), (source, other)):
        mapping.close()
        os.close(fd)


def test_nothing_lies_anywhere_in_a_range_and_all_of_it_fits() -> None:
    fd = shared_block(1)
    mapping = Mapping(fd, 1)
    for offset in (0, PAGE):
        assert mapping.tensor(offset, (0, 4), torch.bfloat16).shape == (0, 4)
    assert mapping.tensor(PAGE - 8, (2,), torch.float32).tolist() == [0, 0]
    mapping.close()
    os.close(fd)


def test_what_does_not_fit_is_refused() -> None:
    fd = shared_block(1)
    mapping = Mapping(fd, 1)
    with pytest.raises(ValueError, match="outside a range"):
        mapping.tensor(0, (PAGE + 1,), torch.uint8)
    with pytest.raises(ValueError, match="outside a range"):
        mapping.tensor(-1, (1,), torch.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        mapping.replace(1, PAGE, fd, 0)
    with pytest.raises(ValueError, match="do not fit"):
        mapping.replace(PAGE, PAGE, fd, 0)
    mapping.close()
    mapping.close()  # a second time does nothing
    os.close(fd)


def test_a_block_that_cannot_be_mapped_says_why() -> None:
    read_end, write_end = os.pipe()
    with pytest.raises(OSError, match="cannot map"):
        Mapping(read_end, PAGE)
    os.close(read_end)
    os.close(write_end)


def test_whole_pages() -> None:
    assert [whole_pages(n) for n in (0, 1, PAGE, PAGE + 1)] == [PAGE, PAGE, PAGE, 2 * PAGE]


def test_without_memfd_blocks_are_unlinked_files(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fd = shared_block(10)
    mapping = Mapping(fd, 10)
    assert mapping.tensor(0, (10,), torch.uint8).sum() == 0
    assert not list(tmp_path.iterdir())
    mapping.close()
    os.close(fd)
