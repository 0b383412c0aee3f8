"""Run a model of transformers on rank processes, as a notebook or a script asks for it.

with Ranks(2) as ranks:
    run = run_hf_model(ranks, "path/to/checkpoint", prompts=[[[1, 2, 3]], [[4, 5]]], strategy={"slots": 2})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwdp_lab.execute.cpu.memory_need import check_memory
from dwdp_lab.execute.cuda.gpu_memory import check_gpu_memory, visible_gpus
from dwdp_lab.execute.cuda.refusal import check_fits_kernels, check_gpus_here
from dwdp_lab.execute.hf.order import HfAnswer, HfOrder
from dwdp_lab.execute.hf.prompts import Prompts, check_known, token_ids
from dwdp_lab.execute.launch import RankMachineName
from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.execute.run_result import crowded, host_environment, shared_gpus
from dwdp_lab.model.hf.interface import check_transformers
from dwdp_lab.model.hf.tensor_files import check_files
from dwdp_lab.model.supported import check_dtype
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import verify
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.errors import MISSING, ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Timeline

if TYPE_CHECKING:
    from torch import Tensor


JOBS: dict[RankMachineName, str] = {
    "cpu": "dwdp_lab.execute.hf.rank_job:run",
    "cuda": "dwdp_lab.execute.hf.gpu_job:run",
}
RUNNABLE = frozenset({"attention", "dense", "route", "experts", "pull", "merge"})


@dataclass(frozen=True)
class HfResult:
    """What each rank's model answered, in rank order; None for a rank without prompts.

    `logits[r]` are [prompts, 1, vocabulary] of the last position, or of all positions where asked for; `tokens[r]`,
    where new ones were asked for, the prompts with them [prompts, length]. In the timeline each pass of the model is a
    step. `scenario` is what was run: `run_sim(scenario)` predicts its first step.
    """

    scenario: Scenario
    timeline: Timeline
    logits: tuple[Tensor | None, ...]
    tokens: tuple[Tensor | None, ...]


def run_hf_model(
    ranks: Ranks,
    folder: str | Path,
    prompts: Prompts,
    new_tokens: int = 0,
    all_logits: bool = False,
    programs: Sequence[Program] | None = None,
    progress: OnProgress | None = None,
    **fields: Any,
) -> HfResult:
    """Each rank answers its own prompts with the checkpoint in the folder, by `dwdp` or `replicated`.

    A rank has the whole model in memory but for the routed experts, of which it reads and keeps no more than its own;
    the others are pulled from its peers' memory while the layers before compute. Ranks never wait for each other.

    `fields` are those of a Scenario but for model and workload: strategy, group, link_gbps. With `new_tokens` the
    likeliest so many words are appended to each prompt, a pass of the model for each; fewer where the checkpoint's
    generation config has a word that ends an answer, and all of a rank's prompts have come to it. `programs` of your
    own (one per rank, of one step) are checked as any others. What was loaded stays for the next call.

    Raises ScenarioError or ProgramError before anything runs; RankFailed when a rank raises, as for a checkpoint that
    lacks weights; RunStopped when another thread stops the ranks.
    """
    given = token_ids(prompts, ranks.size)
    scenario = hf_scenario(ranks.size, folder, given, **fields)
    check_known(given, scenario.model.vocab)
    if isinstance(new_tokens, bool) or not isinstance(new_tokens, int) or new_tokens < 0:
        raise ScenarioError("new_tokens", new_tokens, "must be a whole number from 0 up")
    check_transformers()
    home = Path(folder).expanduser().resolve()
    check_files(home)
    chosen = tuple(build(scenario) if programs is None else programs)
    verify(chosen, scenario)
    _check_kinds(scenario, chosen)
    _check_machine(ranks, scenario)
    order = HfOrder(str(home), _version(home), scenario, chosen, given, new_tokens, all_logits)
    answers: list[HfAnswer] = ranks.perform(JOBS[ranks.machine], order, progress)
    return HfResult(
        scenario,
        _timeline(scenario, chosen, answers, ranks.machine),
        tuple(answer.logits for answer in answers),
        tuple(answer.tokens for answer in answers),
    )


def hf_scenario(ranks: int, folder: str | Path, prompts: Prompts, **fields: Any) -> Scenario:
    """The scenario of such a run: its model by the folder's config.json, its workload the prompts.

    Raises ScenarioError for prompts or fields that cannot be used.
    """
    given = token_ids(prompts, ranks)
    if taken := sorted({"model", "workload"} & set(fields)):
        raise ScenarioError(taken[0], fields[taken[0]], "follows from the folder and the prompts", "leave it out")
    group = fields.pop("group", {})
    if isinstance(group, Mapping):
        group = {"ranks": ranks, **group}
        if group["ranks"] != ranks:
            raise ScenarioError("group.ranks", group["ranks"], f"these are {ranks} rank processes")
    workload = {"kind": "explicit", "lengths": [[len(prompt) for prompt in mine] for mine in given]}
    config = Path(folder).expanduser() / "config.json"  # not a preset that happens to have the folder's name
    if not config.is_file():
        raise ScenarioError(
            "folder",
            str(folder),
            "has no config.json: it needs to be the folder of a checkpoint",
            "huggingface_hub.snapshot_download(name) brings a model of the hub into one, and returns it",
        )
    scenario = Scenario.create(model=str(config), group=group, workload=workload, **fields)
    _check_dtype_is_told(config)
    check_dtype(scenario.model.dtype, "model.dtype")
    check_dtype(scenario.model.expert_dtype, "model.expert_dtype")
    return scenario


def _check_dtype_is_told(config: Path) -> None:
    """A config may leave it out: a shape then takes bf16, and transformers whatever the weights are kept in."""
    told = json.loads(config.read_text(encoding="utf-8"))
    if not any(each.get(name) for each in (told, told.get("text_config") or {}) for name in ("dtype", "torch_dtype")):
        hint = 'add the type that its weights are kept in, as "dtype": "bfloat16"'
        raise ScenarioError("model.dtype", MISSING, f"is missing in {config}", hint)


def _check_machine(ranks: Ranks, scenario: Scenario) -> None:
    if ranks.machine == "cuda":
        check_gpus_here()
        check_fits_kernels(scenario)
    if ranks.alive:  # of what they have loaded nobody here knows how much they can use again
        return
    if ranks.machine == "cuda":
        check_gpu_memory(scenario, visible_gpus(), embeddings=True)
    else:
        check_memory(scenario, ranks.pids)


def _check_kinds(scenario: Scenario, programs: Sequence[Program]) -> None:
    others = sorted({op.kind for program in programs for op in program.ops} - RUNNABLE)
    if others:
        raise ScenarioError(
            "strategy.name",
            scenario.strategy.name,
            f"has {', '.join(others)}; the ranks of a model of transformers only pull weights",
            "take dwdp or replicated",
        )


def _version(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the checkpoint does."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def _timeline(
    scenario: Scenario, programs: Sequence[Program], answers: Sequence[HfAnswer], machine: RankMachineName
) -> Timeline:
    environment = host_environment(answers[0].environment)
    passes = max(answer.passes for answer in answers)
    notes = [
        *(shared_gpus(environment) if machine == "cuda" else crowded(programs, environment["cpus_allowed"])),
        *dict.fromkeys(note for answer in answers for note in answer.notes),
        "attention is all that the model does between two layers' experts, whatever it is",
    ]
    if (
        machine == "cpu"
        and scenario.link_gbps is not None
        and any(op.kind == "pull" for program in programs for op in program.ops)
    ):
        notes.append(f"copies paced to {scenario.link_gbps:g} GB/s")
    batches = scenario.batches
    return Timeline(
        spans=tuple(span for answer in answers for span in answer.spans),
        strategy=scenario.strategy.name,
        machine=machine,
        provenance="measured",
        tokens=tuple(
            batches.tokens(rank) + max(0, answer.passes - 1) * len(batches.by_rank[rank][0])
            for rank, answer in enumerate(answers)
        ),
        steps=passes,
        notes=tuple(notes),
        environment=environment,
    )
