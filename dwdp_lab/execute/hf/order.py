"""What ranks are asked to do with a model of transformers, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dwdp_lab.program.operation import Program
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span

if TYPE_CHECKING:
    from torch import Tensor


class HfOrder(NamedTuple):
    """The same for all ranks. `prompts[r]` are rank r's, all of one length; none: it only lends its experts."""

    folder: str
    version: object
    """Tells one content of the folder from another."""
    scenario: Scenario
    programs: tuple[Program, ...]
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    new_tokens: int
    all_logits: bool

    @property
    def replicated(self) -> bool:
        """Whether no program has a slot, so that every rank keeps all experts."""
        return all(op.slot is None for program in self.programs for op in program.ops)

    def local(self, rank: int) -> range:
        """The experts of each layer that the rank keeps."""
        return range(self.scenario.model.experts) if self.replicated else placement(self.scenario).local(rank)


class HfAnswer(NamedTuple):
    """One rank's results; tensors are None for a rank without prompts."""

    spans: tuple[Span, ...]
    passes: int
    logits: Tensor | None
    tokens: Tensor | None
    environment: dict[str, Any]
    notes: tuple[str, ...] = ()
