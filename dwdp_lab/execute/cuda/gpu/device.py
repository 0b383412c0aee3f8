"""What the CUDA machine asks of one GPU: streams and events, virtual memory, copies by copy engine.

Written down once, so that all above it also runs without a GPU, on a stand-in that delays and reorders whatever
streams and events leave open (tests/execute/cuda). Addresses are plain integers, as the driver hands them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor


class Copy(NamedTuple):
    """`nbytes` from one address to another, both mapped on this rank's device (the source may be a peer's memory)."""

    target: int
    source: int
    nbytes: int


HandleKind = Literal["descriptor", "fabric"]
"""How a block of memory is handed to another process: as an open file, or as bytes that reach other hosts too."""


class Event(Protocol):
    """A point in a stream. Waiting for one that nobody recorded passes at once, as with CUDA."""


class Graph(Protocol):
    """What streams were given while they were captured (`Device.capture`), to be queued as a whole."""


class Stream(Protocol):
    """Work in order. No method blocks the host."""

    def run(self, work: Callable[[], None]) -> None:
        """Queue what `work` launches: torch operations and kernels."""

    def copy(self, copies: Sequence[Copy]) -> None:
        """Queue copies by copy engine. They may land in any order among themselves."""

    def wait(self, event: Event) -> None:
        """What is queued after this starts only when the event's last record so far has happened."""

    def record(self, event: Event) -> None:
        """The event happens when all that is queued before it has ended."""

    def uses(self, tensor: Tensor) -> None:
        """What is queued here so far may read the tensor: its memory is not given to others before that has ended,
        even when nothing refers to it any more."""

    def write_value(self, address: int, value: int) -> None:
        """Write a 32-bit word, here or in a peer's memory, after all that is queued before it, which who sees the word
        sees too. Not within a capture."""

    def wait_value(self, address: int, value: int) -> None:
        """What is queued after this starts only when the 32-bit word at this address of the device's own memory is at
        least this value, as cyclic numbers are compared: (word - value) mod 2**32 < 2**31. No processor waits. Not
        within a capture."""

    def replay(self, graph: Graph) -> None:
        """Queue all of a graph: it begins when what is queued here before it has ended, and ends before what is queued
        here after it begins. Other streams, also those that were captured, have nothing to do with it."""


class Gate(Protocol):
    """Closed when it is made; streams that it holds go on once it is open. It never closes again."""

    def open(self) -> None:
        """Let the streams go. Any thread may call this, and again."""


class Memory(Protocol):
    """Virtual memory as the CUDA driver has it: physical blocks, ranges of addresses, and mappings between them.

    All sizes and addresses are multiples of `granularity`. A block is always mapped whole: the driver takes no
    offset into one. A released block lives on until its last mapping, here or in a peer, is gone.
    """

    granularity: int

    def available(self) -> int:
        """Bytes that can still be created, caches of this process given back."""

    def create(self, nbytes: int, handles: HandleKind | None = None) -> int:
        """A new physical block on this device, to be exported as `handles` (None: never); its handle."""

    def export(self, block: int, handles: HandleKind) -> int | bytes:
        """What a peer process adopts the block by: a file descriptor, which the caller closes, or a fabric handle."""

    def adopt(self, exported: int | bytes) -> int:
        """A handle of the block that a peer exported. A descriptor stays the caller's to close."""

    def release(self, block: int) -> None:
        """Give the handle back."""

    def reserve(self, nbytes: int) -> int:
        """A range of addresses with nothing behind it."""

    def map(self, address: int, nbytes: int, block: int) -> None:
        """Put the whole block behind these addresses, readable and writable from this device."""

    def unmap(self, address: int, nbytes: int) -> None:
        """Take what is behind these addresses away; whole mappings only, and no kernel may use them any more."""

    def free(self, address: int, nbytes: int) -> None:
        """Give a range back that was reserved with this size, after all of it is unmapped."""

    def open_to(self, gpu: int, address: int, nbytes: int) -> None:
        """Let another GPU of this host read and write all that is mapped behind these addresses, until it is unmapped.
        Whole mappings only. Doing it again does nothing."""

    def tensor(self, address: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor on this device over mapped addresses. It does not keep them mapped."""


class Device(Protocol):
    """One rank's GPU."""

    torch_device: torch.device
    memory: Memory

    def stream(self, name: str) -> Stream:
        """A new stream; the name shows in profilers."""

    def stream_on(self, gpu: int, name: str) -> Stream:
        """A new stream on another GPU, for copies between memory that this GPU and that one both reach."""

    def why_no_values(self) -> str | None:
        """Why its streams can neither write words nor wait for them; None where they can, as far as it tells."""

    def event(self, timed: bool = False) -> Event:
        """A new event; `timed` ones can be measured between."""

    def hold(self, streams: Sequence[Stream]) -> Gate | None:
        """A gate before whatever is queued on these streams from now on; None where the device has no such thing.

        Until it is open the host must not wait for these streams in the thread that opens it.
        """

    def capture(self, stream: Stream, after: Graph | None = None) -> AbstractContextManager[Graph]:
        """Within this context what the stream is given does not run: it becomes the graph. So does what other streams
        are given once they have waited for an event that was recorded within; before the context ends `stream` has to
        have waited for each of these in turn.

        Work is called once, so that the graph reads and writes the same tensors whenever it is replayed. A timed event
        becomes a stamp, recorded anew by every replay; streams can wait for untimed events only, and for none from
        before. The host must not wait for the device. `after`: a graph that is always replayed before this one, of
        whose memory it takes what is free again.
        """

    def elapsed_us(self, first: Event, second: Event) -> float:
        """From one timed event to another, both of which have happened (`synchronize`)."""

    def wait(self, event: Event) -> None:
        """Block the host until the event's last record so far has happened."""

    def synchronize(self) -> None:
        """Block the host until everything queued on this device by this process has ended."""
