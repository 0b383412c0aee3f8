"""What runs: the model's shape, the group, the strategy and its knobs, and the workload. No torch."""

from dwdp_lab.scenario.batches import Batch, Batches, Chunk
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.group import Group
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import GroupedQueryAttention, LatentAttention, ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import Strategy
from dwdp_lab.scenario.workload import CvWorkload, ExplicitWorkload, IslWorkload, TraceWorkload, Workload

__all__ = [
    "Batch",
    "Batches",
    "Chunk",
    "CvWorkload",
    "ExplicitWorkload",
    "Group",
    "GroupedQueryAttention",
    "IslWorkload",
    "LatentAttention",
    "ModelShape",
    "Scenario",
    "ScenarioError",
    "Strategy",
    "TraceWorkload",
    "Workload",
    "read_model",
]
