"""Checkpoints that transformers writes, read by rank: everything but experts, and of experts only those asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, tiny_model, transformers_here

from dwdp_lab.model.hf.checkpoint import ExpertFiles
from dwdp_lab.model.hf.expert_source import ExpertWeights, source_of
from dwdp_lab.model.hf.experts_module import experts_modules, layer_of
from dwdp_lab.model.hf.skeleton import skeleton
from dwdp_lab.model.hf.tensor_files import INDEX, SINGLE
from dwdp_lab.scenario.errors import ScenarioError


def written(folder: Path, family: str, **options: Any) -> Any:
    model = tiny_model(family, **({"dtype": options.pop("dtype")} if "dtype" in options else {}))
    model.save_pretrained(folder, **options)
    return model


def own_weights(module: torch.nn.Module) -> ExpertWeights:
    found: list[ExpertWeights] = []

    def look(weights: ExpertWeights) -> torch.Tensor:
        found.append(weights)
        return torch.empty(0)

    source_of(module).run(torch.empty(0, 1), look)
    return found[0]


@pytest.mark.parametrize("shards", ["one file", "a file for each tensor"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_expert_is_what_the_model_has(tmp_path: Path, family: str, shards: str) -> None:
    model = written(tmp_path, family, **({} if shards == "one file" else {"max_shard_size": 1}))
    assert (tmp_path / INDEX).is_file() == (shards != "one file")
    for name, module in experts_modules(model).items():
        weights = own_weights(module)
        with ExpertFiles(tmp_path, module.is_transposed) as files:
            for expert in range(module.num_experts):
                w13, w2 = files.expert(layer_of(name), expert, tuple(weights.w13[0].shape))
                assert torch.equal(w13, weights.w13[expert])
                assert torch.equal(w2, weights.w2[expert])


def test_a_rank_reads_its_own_experts_and_no_others(tmp_path: Path) -> None:
    """The files of all other experts are gone, and it does without."""
    from safetensors.torch import load_file, save_file

    model = written(tmp_path, "qwen3_moe")
    local, size = range(2, 5), (32, 32)
    tensors = load_file(tmp_path / SINGLE)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in tensors}}))
    for name, tensor in tensors.items():
        if ".experts." in name and int(name.split(".experts.")[1].split(".")[0]) in local:
            save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    (tmp_path / SINGLE).unlink()
    module = model.model.layers[1].mlp.experts
    with ExpertFiles(tmp_path, False) as files:
        for expert in local:
            w13, w2 = files.expert(1, expert, size)
            assert torch.equal(w13, module.gate_up_proj[expert])
            assert torch.equal(w2, module.down_proj[expert])
        with pytest.raises(ScenarioError, match=r"lacks its file .*experts\.5\..*\. Download it again"):
            files.expert(1, 5, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_skeleton_is_the_model_but_for_experts(
    tmp_path: Path, family: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = written(tmp_path, family, dtype=dtype)
    with caplog.at_level(logging.WARNING):
        bare = skeleton(tmp_path, dtype)
    assert not [record for record in caplog.records if "experts" in record.getMessage()]
    lacking = {name for name in model.state_dict() if name.endswith((".gate_up_proj", ".down_proj")) and "exp" in name}
    assert len(lacking) == 2 * len(experts_modules(model))
    assert bare.state_dict().keys() == model.state_dict().keys() - lacking
    kept = {**model.state_dict(), **dict(model.named_buffers())}
    assert all(torch.equal(tensor, kept[name]) for name, tensor in bare.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in bare.named_buffers())
    assert not any(parameter.requires_grad for parameter in bare.parameters())
    assert not bare.training


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    """transformers alone would draw the rest at random."""
    from safetensors.torch import load_file, save_file

    written(tmp_path, "qwen3_moe")
    tensors = load_file(tmp_path / SINGLE)
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, tmp_path / SINGLE)
    with pytest.raises(ScenarioError, match=r"lacks model\.layers\.1\.self_attn\.q_proj\.weight, or has it in another"):
        skeleton(tmp_path, torch.float32)


@pytest.mark.parametrize("lost", ["model_type", "own code"])
def test_a_model_that_transformers_cannot_make_is_refused(
    tmp_path: Path, lost: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody is asked whether a checkpoint's own code may run: a rank process has no terminal."""
    written(tmp_path, "qwen3_moe")
    config = json.loads((tmp_path / "config.json").read_text())
    if lost == "model_type":
        del config["model_type"]
    else:
        config |= {"model_type": "of_their_own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    capfd.readouterr()
    with pytest.raises(
        ScenarioError, match=rf"model = '{tmp_path}': is no model that transformers 5\S+ can make by its"
    ):
        skeleton(tmp_path, torch.float32)
    assert "[y/N]" not in capfd.readouterr().out


def test_models_made_afterwards_have_experts_again(tmp_path: Path) -> None:
    written(tmp_path, "mixtral")
    skeleton(tmp_path, torch.float32)
    assert all(module.gate_up_proj is not None for module in experts_modules(tiny_model("mixtral")).values())


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    transformers_here()
    with pytest.raises(ScenarioError, match=rf"neither {INDEX} nor {SINGLE}.*Give the folder"):
        ExpertFiles(tmp_path, False)


def test_experts_in_an_unknown_form_are_refused(tmp_path: Path) -> None:
    transformers_here()
    from safetensors.torch import save_file

    save_file({"model.layers.0.mlp.experts.gate_up_proj_blocks": torch.zeros(1)}, tmp_path / SINGLE)
    with pytest.raises(ScenarioError, match=r"known by name; it has model\.layers\.N\.mlp\.experts\.gate_up_proj_bl"):
        ExpertFiles(tmp_path, False)


def experts_of(layer: str, value: float) -> dict[str, torch.Tensor]:
    parts = {"gate_proj": (2, 3), "up_proj": (2, 3), "down_proj": (3, 2)}
    return {f"{layer}.mlp.experts.0.{part}.weight": torch.full(size, value) for part, size in parts.items()}


@pytest.mark.parametrize("also", ["mtp.layers.0", "model.mtp_block.0", "model.vision.layers.0"])
@pytest.mark.parametrize("first", [True, False])
def test_layers_beside_the_models_are_not_mixed_up_with_it(tmp_path: Path, also: str, first: bool) -> None:
    """Some families' checkpoints have layers that predict further ahead, which transformers does not load."""
    transformers_here()
    from safetensors.torch import save_file

    tensors = [experts_of(also, 2.0), experts_of("model.layers.0", 1.0)]
    save_file({**tensors[not first], **tensors[first]}, tmp_path / SINGLE)
    with ExpertFiles(tmp_path, False, "model.") as files:
        w13, w2 = files.expert(0, 0, (4, 3))
        assert (w13.unique().tolist(), w2.unique().tolist()) == ([1.0], [1.0])


def test_names_that_begin_in_another_way_are_found_if_they_are_clear(tmp_path: Path) -> None:
    """As transformers does for checkpoints of a model without its head, or within a larger one."""
    transformers_here()
    from safetensors.torch import save_file

    save_file(experts_of("layers.0", 1.0), tmp_path / SINGLE)
    with ExpertFiles(tmp_path, False, "model.") as files:
        assert files.expert(0, 0, (4, 3))[0].unique().tolist() == [1.0]
    save_file(experts_of("layers.0", 1.0) | experts_of("mtp.layers.0", 2.0), tmp_path / SINGLE)
    with pytest.raises(ScenarioError, match=r"has experts in layers, mtp\.layers, and the model in model\.layers"):
        ExpertFiles(tmp_path, False, "model.")


def test_the_same_weights_twice_are_refused(tmp_path: Path) -> None:
    transformers_here()
    from safetensors.torch import save_file

    twice = {f"model.layers.0.mlp.experts.0.{part}.weight": torch.ones(2, 3) for part in ("w1", "gate_proj")}
    save_file(twice, tmp_path / SINGLE)
    with pytest.raises(ScenarioError, match=r"the same weights twice: .*gate_proj.* and .*w1|w1.* and .*gate_proj"):
        ExpertFiles(tmp_path, False)


def test_what_a_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    transformers_here()
    from safetensors.torch import save_file

    save_file({"model.layers.0.mlp.experts.0.gate_proj.weight": torch.zeros(2, 3)}, tmp_path / SINGLE)
    with (
        ExpertFiles(tmp_path, False) as files,
        pytest.raises(ScenarioError, match=r"lacks up_proj of expert 0 of layer 0"),
    ):
        files.expert(0, 0, (4, 3))


def test_quantised_experts_are_refused(tmp_path: Path) -> None:
    """Also where the config does not say so: without their scales they would be wrong numbers."""
    from safetensors.torch import load_file, save_file

    written(tmp_path, "olmoe")
    narrow = {
        name: tensor.to(torch.float8_e4m3fn) if ".experts." in name else tensor
        for name, tensor in load_file(tmp_path / SINGLE).items()
    }
    save_file(narrow, tmp_path / SINGLE)
    with (
        ExpertFiles(tmp_path, False) as files,
        pytest.raises(ScenarioError, match=r"has expert 1 of layer 2 as torch\.float8_e4m3fn: quantised"),
    ):
        files.expert(2, 1, (32, 32))


def test_a_config_of_another_size_is_noticed(tmp_path: Path) -> None:
    written(tmp_path, "olmoe")
    with (
        ExpertFiles(tmp_path, False) as files,
        pytest.raises(ScenarioError, match=r"expert 1 of layer 2 is \[32, 32\] and \[32, 16\], and by the config"),
    ):
        files.expert(2, 1, (64, 32))
