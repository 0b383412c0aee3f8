"""The experts a rank keeps: one range of experts of every MoE layer, in memory that peers may map."""

from __future__ import annotations

from contextlib import ExitStack

from torch import Tensor

from dwdp_lab.execute.cuda.experts.store_plan import StorePlan, Stretch
from dwdp_lab.execute.cuda.gpu.device import Device
from dwdp_lab.execute.cuda.memory.transport import Transport
from dwdp_lab.model.kept_experts import as_stored, kept_weights, stored_form
from dwdp_lab.model.weights import ReadExpert


class ExpertStore:
    """The memory of a plan, empty when made. Raises what the transport raises, having given back what it made."""

    def __init__(self, plan: StorePlan, transport: Transport, device: Device) -> None:
        self.plan = plan
        self.device = device
        self.transport = transport
        self.forms = {name: stored_form(plan.shape, name) for name, _ in plan.shape.expert_matrices}
        self._views: dict[tuple[int, str], Tensor] = {}
        with ExitStack() as stack:
            self.held = transport.hold(stack, [block.nbytes for block in plan.blocks])
            self._block_of = dict(zip(plan.blocks, self.held.blocks, strict=bool(self.held.blocks)))
            stack.callback(device.synchronize)
            self._stack = stack.pop_all()

    def address(self, layer: int, name: str) -> int:
        """Where the first local expert of a parameter lies."""
        return self.held.address + self.plan.regions[layer, name].data.start

    def block_at(self, pages: Stretch) -> int:
        """The handle of the block that these bytes of the store are. Raises KeyError for anything but a whole block."""
        return self._block_of[pages]

    def parameter(self, layer: int, name: str) -> Tensor:
        """[L, rows, columns], or [L, bytes] with scales: the local experts of a decoder layer."""
        if (layer, name) not in self._views:
            size, dtype = self.forms[name]
            shape = (len(self.plan.experts), *size)
            self._views[layer, name] = self.transport.tensor(self.address(layer, name), shape, dtype)
        return self._views[layer, name]

    def fill(self, read: ReadExpert) -> None:
        """Take the weights in, of any device. Returns when they are there for everybody to read."""
        shape = self.plan.shape
        for layer in shape.layers_with_experts:
            views = [self.parameter(layer, name) for name in self.forms]
            for index, expert in enumerate(self.plan.experts):
                for view, weight in zip(views, kept_weights(shape, read(layer, expert)), strict=True):
                    view[index].copy_(as_stored(weight))
        # peers, and other mappings of the same memory, see what was written when the writing work has ended
        self.device.synchronize()

    def close(self) -> None:
        """Give the memory back; peers must have let go of it, and no tensor over it may be used any more."""
        self._views.clear()
        self._stack.close()
