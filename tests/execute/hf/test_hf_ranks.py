"""Models of transformers on rank processes: the stock model's outputs, bit for bit, with most experts elsewhere."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from gpu_ranks import why_not
from tiny_models import FAMILIES, tiny_model, token_ids, transformers_here

from dwdp_lab.execute.cuda.gpu_memory import Gpu, needed_bytes
from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.execute.hf import run_model
from dwdp_lab.execute.hf.run_model import hf_scenario, run_hf_model
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.model.hf.interface import use_hf_experts
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import ProgramError
from dwdp_lab.program.operation import Op, Program
from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.scenario.errors import ScenarioError

PROMPTS = [token_ids(2, 9).tolist(), token_ids(1, 14, seed=2).tolist(), []]
"""Three ranks: two short ones, a longer one, and a rank that has only experts to lend."""
NEW_TOKENS = 3

KNOBS: list[dict[str, Any]] = [
    {"strategy": {"name": "replicated"}},
    {},
    {"strategy": {"weight_view": "merged", "slots": 3}},
    {"strategy": {"weight_view": "composite"}},
    {"strategy": {"pull": "routed", "slots": 1}},
    {"strategy": {"slice_bytes": 1024, "peer_order": "permutation"}},
    {"strategy": {"overlap": False}},
    {"group": {"local_experts": 4}},
]


class Stock(NamedTuple):
    """A checkpoint, and what the model in it answers in one process."""

    folder: Path
    logits: list[torch.Tensor]
    tokens: list[torch.Tensor]


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(family: str, dtype: torch.dtype = torch.float32) -> Stock:
        model, folder = tiny_model(family, dtype), tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        use_hf_experts(model)
        inputs = [torch.tensor(prompts) for prompts in PROMPTS if prompts]
        with torch.inference_mode():
            logits = [model(ids).logits for ids in inputs]
            tokens = [model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False) for ids in inputs]
        return Stock(folder, logits, tokens)

    return make


@pytest.fixture(autouse=True)
def needs_transformers() -> None:
    transformers_here()


@pytest.mark.ranks
@pytest.mark.parametrize("knobs", KNOBS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_answer_as_the_stock_model_bit_for_bit(
    three_ranks: Ranks, stock: Any, family: str, knobs: dict[str, Any]
) -> None:
    expected: Stock = stock(family)
    run = run_hf_model(three_ranks, expected.folder, PROMPTS, all_logits=True, **knobs)
    assert run.logits[2] is None
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(run.logits, expected.logits, strict=False))
    assert run.timeline.tokens == (18, 14, 0)
    longer = run_hf_model(three_ranks, expected.folder, PROMPTS, new_tokens=NEW_TOKENS, **knobs)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(longer.tokens, expected.tokens, strict=False))
    assert longer.timeline.steps == NEW_TOKENS
    assert longer.timeline.tokens == (18 + 2 * 2, 14 + 2, 0)


@pytest.mark.ranks
@pytest.mark.parametrize("family", FAMILIES)
def test_sixteen_bit_models_too(three_ranks: Ranks, stock: Any, family: str) -> None:
    expected: Stock = stock(family, torch.bfloat16)
    run = run_hf_model(three_ranks, expected.folder, PROMPTS)
    for mine, theirs in zip(run.logits, expected.logits, strict=False):
        assert mine is not None
        assert mine.dtype == torch.bfloat16
        assert torch.equal(mine, theirs[:, -1:])  # the last position alone, unless all are asked for


@pytest.mark.ranks
def test_the_timeline_tells_what_moved(three_ranks: Ranks, stock: Any) -> None:
    folder = stock("deepseek_v3").folder
    run = run_hf_model(three_ranks, folder, PROMPTS, new_tokens=NEW_TOKENS)
    assert (run.timeline.strategy, run.timeline.provenance, run.timeline.machine) == ("dwdp", "measured", "cpu")
    for rank in range(2):
        plan = sum(piece.nbytes for piece in pull_plan(run.scenario, rank).slices)
        pulls = [span for span in run.timeline.spans if span.rank == rank and span.kind == "pull"]
        # layer 0 is dense
        assert [(span.step, span.layer) for span in pulls] == [
            (s, layer) for s in range(NEW_TOKENS) for layer in (1, 2)
        ]
        assert {span.nbytes for span in pulls} == {plan}
        experts = [span for span in run.timeline.spans if span.rank == rank and span.kind == "experts"]
        for pull, used in zip(pulls, experts, strict=True):
            assert (pull.step, pull.layer) == (used.step, used.layer)
            assert pull.end_us <= used.start_us
    assert not [span for span in run.timeline.spans if span.rank == 2]


@pytest.mark.ranks
def test_routed_pulls_move_fewer_bytes(three_ranks: Ranks, stock: Any) -> None:
    folder = stock("olmoe").folder
    knobs = {"pull": "routed"}
    run = run_hf_model(three_ranks, folder, [[[5]], [[6]], []], strategy=knobs)
    all_of_them = sum(piece.nbytes for piece in pull_plan(run.scenario, 0).slices)
    pulled = [span.nbytes for span in run.timeline.spans if span.kind == "pull"]
    assert len(pulled) == 2 * 3
    assert max(pulled) < all_of_them  # one token visits 4 of 8 experts, and some of these are local


@pytest.mark.ranks
def test_a_schedule_of_your_own_runs_the_model(three_ranks: Ranks, stock: Any) -> None:
    """And one with a race is refused before it touches anything."""
    expected: Stock = stock("qwen3_moe")
    scenario = hf_scenario(3, expected.folder, PROMPTS)

    def pull_then_compute(rank: RankView, signal: str | None = "consumed") -> list[Op]:
        ops: list[Op] = []
        for step in rank.busy_steps:
            for layer in rank.layers:
                waits = ("consumed",) if ops else ()
                pull = rank.pull(step, layer, 0, waits if signal else (), "pulled")
                experts = rank.experts(step, layer, ("pulled",), signal, 0)
                ops += [pull, rank.attention(step, layer), rank.route(step, layer), experts]
        return ops

    mine = build(scenario, lambda rank: iter(pull_then_compute(rank)))
    run = run_hf_model(three_ranks, expected.folder, PROMPTS, all_logits=True, programs=mine)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(run.logits, expected.logits, strict=False))
    racy = build(scenario, lambda rank: iter(pull_then_compute(rank, signal=None)))
    with pytest.raises(ProgramError, match="may overwrite"):
        run_hf_model(three_ranks, expected.folder, PROMPTS, programs=racy)


@pytest.mark.ranks
def test_what_was_loaded_stays_and_a_changed_checkpoint_is_seen(three_ranks: Ranks, tmp_path: Path) -> None:
    messages: list[str] = []

    def run() -> torch.Tensor:
        messages.clear()
        logits = run_hf_model(three_ranks, tmp_path, PROMPTS, progress=lambda _, doing: messages.append(doing)).logits
        assert logits[0] is not None
        return logits[0]

    tiny_model("mixtral").save_pretrained(tmp_path)
    first = run()
    assert "loading" in messages
    assert torch.equal(run(), first)
    assert "loading" not in messages
    tiny_model("mixtral", seed=3).save_pretrained(tmp_path)
    assert not torch.equal(run(), first)
    assert "loading" in messages


@pytest.mark.ranks
def test_a_checkpoint_that_cannot_be_read_ends_the_run_with_the_reason(stock: Any, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in stock("mixtral").folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = (folder / "config.json").read_text().replace('"num_local_experts": 5', '"num_local_experts": 6')
    (folder / "config.json").write_text(config)
    with Ranks(2) as ranks:
        with pytest.raises(
            RankFailed, match=r"ScenarioError: model = .*lacks .*model\.layers\.0\.mlp\.gate\.weight.* and 2 others"
        ):
            run_hf_model(ranks, folder, PROMPTS[:2])
        assert not ranks.alive


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompts": PROMPTS[:2]}, r"prompts = 2: needs the prompts of each of the 3 ranks"),
        ({"prompts": [[[1], [2, 3]], [], []]}, r"prompts\[0\] = \[1, 2\]: a rank's prompts need to be of one length"),
        ({"prompts": [[], [], []]}, r"workload\.lengths.*needs a length for at least one rank"),
        ({"prompts": [[[1]], [[2, 97]], []]}, r"prompts\[1\] = 97: must be from 0 to 96"),
        ({"new_tokens": -1}, r"new_tokens = -1"),
        ({"new_tokens": 1.5}, r"new_tokens = 1\.5: must be a whole number from 0 up"),
        ({"strategy": {"name": "dep"}}, r"strategy\.name = 'dep': has combine, dispatch; .*Take dwdp or replicated"),
        ({"group": 3}, r"group = 3: must be a mapping"),
        ({"group": {"ranks": 2}}, r"group\.ranks = 2: these are 3 rank processes"),
        ({"model": "tiny"}, r"model = 'tiny': follows from the folder and the prompts"),
        ({"link_speed": 3}, r"link_speed"),
    ],
    ids=str,
)
def test_what_cannot_run_is_refused_before_anything_starts(stock: Any, change: dict[str, Any], says: str) -> None:
    ranks = Ranks(3)
    given = {"prompts": PROMPTS} | change
    with pytest.raises(ScenarioError, match=says):
        run_hf_model(ranks, stock("qwen3_moe").folder, **given)
    assert not ranks.pids


def test_a_broken_checkpoint_is_refused_before_anything_starts(stock: Any, tmp_path: Path) -> None:
    for file in stock("qwen3_moe").folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 9999 if file.suffix == ".safetensors" else None])
    ranks = Ranks(3)
    with pytest.raises(
        ScenarioError, match=r"no whole safetensors file: .* and (the file )?is 9999\. Download it again"
    ):
        run_hf_model(ranks, tmp_path, PROMPTS)
    assert not ranks.pids


@pytest.mark.parametrize("told", [{}, {"torch_dtype": "float16"}, {"text_config": {"dtype": "float16"}}])
def test_the_type_of_the_weights_has_to_be_told(stock: Any, tmp_path: Path, told: dict[str, Any]) -> None:
    """Else this would compute in bf16, and transformers in what the weights are kept in."""
    config = json.loads((stock("qwen3_moe").folder / "config.json").read_text())
    del config["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config | told))
    if told:
        assert hf_scenario(3, tmp_path, PROMPTS).model.dtype == "fp16"
        return
    with pytest.raises(ScenarioError, match=r'model\.dtype is missing in .*config\.json\. Add .*"dtype": "bfloat16"'):
        hf_scenario(3, tmp_path, PROMPTS)


def test_a_gpu_needs_room_for_the_embeddings_too(stock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stock("qwen3_moe").folder
    need = needed_bytes(hf_scenario(3, folder, PROMPTS), embeddings=True)
    card = Gpu("GPU-0", "Card", 3 * need - 1)
    monkeypatch.setattr(run_model, "check_gpus_here", lambda: None)
    monkeypatch.setattr(run_model, "visible_gpus", lambda: (card,))
    ranks = Ranks(3, machine="cuda")
    with pytest.raises(ScenarioError, match=r"3 ranks on GPU 0 \(Card\) need about 3\.0 GB"):
        run_hf_model(ranks, folder, PROMPTS)
    assert not ranks.pids


def test_gpu_ranks_without_a_gpu_and_folders_without_a_model_are_refused(stock: Any, tmp_path: Path) -> None:
    if why_not() is not None:
        with pytest.raises(ScenarioError, match=r"machine = 'cuda'"):
            run_hf_model(Ranks(3, machine="cuda"), stock("qwen3_moe").folder, PROMPTS)
    with pytest.raises(ScenarioError, match=r"folder = .*has no config\.json.*snapshot_download"):
        run_hf_model(Ranks(3), tmp_path, PROMPTS)


def test_a_programs_pass_is_what_the_simulator_predicts(stock: Any) -> None:
    """The run's own scenario is an ordinary one."""
    from dwdp_lab.simulate.run import run_sim

    scenario = hf_scenario(3, stock("gpt_oss").folder, PROMPTS)
    assert scenario.batches.tokens(0) == 18
    programs = build(scenario)
    assert all(isinstance(program, Program) for program in programs)
    assert {span.kind for span in run_sim(scenario).spans} == {op.kind for program in programs for op in program.ops}
