"""Two processes that share 1 MB as CPU ranks do: a descriptor over an authenticated socket, mapped by both."""

from __future__ import annotations

import sys
from typing import NamedTuple

NBYTES = 1 << 20


class SharedMemoryFacts(NamedTuple):
    nbytes: int
    right: bool


def probe() -> SharedMemoryFacts:
    import torch

    from dwdp_lab.doctor.probes.second_process import second_process
    from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block

    with second_process(__name__) as peer:
        fd = shared_block(NBYTES)
        ours = Mapping(fd, NBYTES).tensor(0, (NBYTES,), torch.uint8)
        sent = torch.randint(0, 256, (NBYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        ours.copy_(sent)
        peer.send("turn every bit", [fd])
        peer.receive()
        return SharedMemoryFacts(NBYTES, torch.equal(ours, ~sent))


def main(path: str) -> None:
    """The second process."""
    import torch

    from dwdp_lab.doctor.probes.second_process import join
    from dwdp_lab.execute.cpu.shared_memory import Mapping

    first = join(path)
    _, [fd] = first.receive()
    theirs = Mapping(fd, NBYTES).tensor(0, (NBYTES,), torch.uint8)
    theirs.copy_(~theirs)
    first.send("done")


if __name__ == "__main__":
    main(sys.argv[1])
