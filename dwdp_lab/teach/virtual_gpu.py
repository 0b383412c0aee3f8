"""A GPU in virtual time that has all the habits by which benchmarks fool people, each of them a switch.

It has two kernels, "old" and "new". Kernels are issued and run later; the clock is the host's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from dwdp_lab.scenario.errors import ScenarioError

KERNELS = ("old", "new")

NEW_US = 1000.0
"""What the new kernel takes when nothing disturbs it."""
ISSUE_US = 4.0
"""What it takes the host to issue one."""
COMPILE_US = 40000.0


class Data(NamedTuple):
    """Inputs in the GPU's memory."""

    number: int
    zeros: bool


class Habits(NamedTuple):
    """What this GPU does beside computing. 0 switches a habit off.

    - `compiling`: before so many first runs of each kernel it is compiled or loaded, which takes `COMPILE_US`.
    - `zeros_us`: the new kernel takes so much less on zeros, where hardly a bit flips and clocks stay high.
    - `cached_us`: the new kernel takes so much less on the data of the run before, which it finds in L2.
    - `neighbour`: this share of the runs takes ten times as long, because somebody else uses the machine.
    - `heating`: the clock falls to 1 / (1 + heating) of its rate over the first 40 runs.
    """

    compiling: int = 0
    zeros_us: float = 0.0
    cached_us: float = 0.0
    neighbour: float = 0.0
    heating: float = 0.0


QUIET = Habits()
"""A GPU without habits, but that it runs kernels later than they are issued."""


@dataclass
class VirtualGPU:
    """`ratio` is how many times longer the old kernel takes than the new one: on random data, nothing cached."""

    ratio: float
    habits: Habits = QUIET
    runs: int = 0
    """Kernels run so far."""
    _host_us: float = 0.0
    _idle_at_us: float = 0.0
    _made: int = 0
    _last: Data | None = None
    _run: dict[str, int] = field(default_factory=dict)
    _chance: Random = field(default_factory=lambda: Random(8))  # the same runs in every try

    def __repr__(self) -> str:
        return "VirtualGPU()"  # it does not give its ratio and habits away

    def random_data(self) -> Data:
        """New inputs of random numbers, as in service."""
        self._made += 1
        return Data(self._made, zeros=False)

    def zeros(self) -> Data:
        """New inputs, all zero."""
        self._made += 1
        return Data(self._made, zeros=True)

    def run(self, kernel: str, data: Data) -> None:
        """Issue a kernel and return at once. It runs when those before it have ended."""
        if kernel not in KERNELS:
            raise ScenarioError("kernel", kernel, 'there are "old" and "new"')
        if not isinstance(data, Data):
            raise ScenarioError("data", data, "take what random_data() or zeros() gives")
        self._host_us += ISSUE_US
        self._idle_at_us = max(self._idle_at_us, self._host_us) + self._takes_us(kernel, data)
        self.runs += 1
        self._run[kernel] = self._run.get(kernel, 0) + 1
        self._last = data

    def wait(self) -> None:
        """Until the GPU has nothing to do."""
        self._host_us = max(self._host_us, self._idle_at_us)

    def now_us(self) -> float:
        """The host's clock."""
        return self._host_us

    def _takes_us(self, kernel: str, data: Data) -> float:
        habits = self.habits
        took = NEW_US * (self.ratio if kernel == "old" else 1.0)
        if kernel == "new" and data.zeros:
            took -= habits.zeros_us
        if kernel == "new" and data == self._last:
            took -= habits.cached_us
        took *= 1.0 + habits.heating * min(1.0, self.runs / 40)
        if self._chance.random() < habits.neighbour:
            took *= 10.0
        return took + (COMPILE_US if self._run.get(kernel, 0) < habits.compiling else 0.0)
