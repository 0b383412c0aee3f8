"""What a ModelShape reads in a family's config is what transformers builds of it: no number is silently wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tiny_models import transformers_here

from dwdp_lab.model.hf.experts_module import experts_modules, layer_of
from dwdp_lab.scenario import ModelShape, ScenarioError, read_model


def shapes() -> Iterator[tuple[Any, ModelShape]]:
    """Configs of families whose experts ours can replace, with their defaults, where a shape can say what they do."""
    transformers = transformers_here()
    for path in sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py")):
        if "@use_experts_implementation" in path.read_text(encoding="utf-8"):
            try:
                config = transformers.AutoConfig.for_model(path.parent.name)
                shape = read_model(json.loads(config.to_json_string(use_diff=False)))
            except ScenarioError:
                continue
            except ValueError as error:
                if "Unrecognized model identifier" not in str(error):  # a name that is no model type's
                    raise
                continue
            yield config, shape


def test_layers_experts_and_sizes_are_those_of_the_model() -> None:
    transformers = transformers_here()
    looked_at = 0
    for config, shape in shapes():
        try:
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config)
        except (ValueError, TypeError):  # no causal language model, or defaults that make none
            continue
        modules = experts_modules(model)
        assert [layer_of(name) for name in modules] == list(shape.layers_with_experts), config.model_type
        for module in modules.values():
            outer, inner = module.down_proj.shape[1:] if not module.is_transposed else module.down_proj.shape[:0:-1]
            assert (outer, inner) == (shape.hidden, shape.expert_intermediate), config.model_type
            assert module.num_experts == shape.experts, config.model_type
        looked_at += 1
    assert looked_at >= 15
