"""The other end of a Peer: `python -m dwdp_lab.teach.peer_process SOCKET BYTES`.

It makes a block of shared memory, sends its descriptor through the socket, and fills bytes when it is told to. It
ends when the socket does, however the process at the other end ended.
"""

from __future__ import annotations

import json
import mmap
import socket
import sys

from dwdp_lab.execute.cpu.shared_memory import shared_block, whole_pages


def main(arguments: list[str]) -> None:
    """Give the memory, then obey."""
    line = socket.socket(fileno=int(arguments[0]))
    nbytes = whole_pages(int(arguments[1]))
    fd = shared_block(nbytes)
    memory = mmap.mmap(fd, nbytes)
    socket.send_fds(line, [b"m"], [fd])
    for order in line.makefile("rb"):
        offset, length, value = json.loads(order)
        memory[offset : offset + length] = bytes([value]) * length
        line.sendall(b"d")


if __name__ == "__main__":
    main(sys.argv[1:])
