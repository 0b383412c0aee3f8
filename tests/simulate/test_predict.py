"""Predictions: the promised form, what limits a strategy, memory, crossover, settings and advice."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.program.build import STRATEGIES
from dwdp_lab.program.memory import ledger
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.advice import advise
from dwdp_lab.simulate.bound import bound_of, shorter_without
from dwdp_lab.simulate.crossover import crossover
from dwdp_lab.simulate.hardware import Calibration, load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.paper_data import paper_scenario
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics
from dwdp_lab.simulate.predict import predict
from dwdp_lab.simulate.search import WORTH_IT, Best, best_settings

SMALL = Scenario.create(
    model={"preset": "qwen3-30b-a3b", "layers": 8},
    group={"ranks": 4},
    workload={"tokens_per_rank": 16384, "cv": 0.2, "isl_tokens": 2048},
)
H100 = load_hardware("h100")


def _predict(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["predict", *options, "--json", "-"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_what_a_calibration_did_not_measure_is_said_of_its_predictions() -> None:
    note = "not measured: the rates of fp8"
    calibration = Calibration(device="", versions={}, date="", command="", notes=(note,))
    profile = H100.model_copy(update={"calibration": calibration})
    assert predict(SMALL, hardware=profile).provenance["hardware"].endswith(f"its own source; {note}")


def test_json_has_the_promised_form(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _predict(
        capsys, "--model", "olmoe-1b-7b", "--hardware", "h100", "--ranks", "2", "--tokens", "8192", "--cv", "0.2"
    )
    assert set(answer) == {
        "strategies",
        "dwdp_over_dep",
        "crossover_tokens",
        "memory_gb_per_rank",
        "advice",
        "details",
    }
    assert list(answer["strategies"]) == ["replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline"]
    for figures in answer["strategies"].values():
        assert set(figures) == {
            "step_ms",
            "tokens_per_s_per_gpu",
            "bound",
            "communication_ms",
            "exposed_copy_ms",
            "wait_on_peers_ms",
        }
        assert figures["bound"] in ("compute", "link", "memory", "wait")
    ratio = answer["strategies"]["dwdp"]["tokens_per_s_per_gpu"] / answer["strategies"]["dep"]["tokens_per_s_per_gpu"]
    assert answer["dwdp_over_dep"] == pytest.approx(ratio)
    assert set(answer["memory_gb_per_rank"]) == set(answer["strategies"])
    assert answer["advice"].endswith(".")
    details = answer["details"]
    assert [row["ranks"] for row in details["over_ranks"]] == [2, 3, 4, 6, 8]
    assert set(details["provenance"]) >= {"strategies", "memory_gb_per_rank", "crossover_tokens", "best"}
    assert "calibrated" in details["provenance"]["strategies"]
    assert "2 x H100" in details["hardware"]["reached"]["link"]["source"]


def test_the_papers_rows_come_out_as_in_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    """Table 4, ratio 0.8, MNT 16384: the same scenario by another way in."""
    answer = _predict(
        capsys,
        *("--model", "deepseek-r1-nvfp4"),
        *("--hardware", "gb200", "--ranks", "4", "--isl", "8192", "--isl-ratio", "0.8", "--mnt", "16384"),
        *("--weight-view", "split", "--peer-order", "ascending", "--over-ranks", "4"),
    )
    profile = load_hardware("gb200")
    workload = {"isl_tokens": 8192, "isl_ratio": 0.8, "mnt_tokens": 16384}
    dep, dwdp = (
        outcome(paper_scenario(name, workload, {"peer_order": "ascending"}), profile, REALISTIC).metrics
        for name in ("dep", "dwdp")
    )
    assert answer["dwdp_over_dep"] == pytest.approx(dwdp.tokens_per_s / dep.tokens_per_s, rel=1e-9)


def test_options_reach_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _predict(
        capsys,
        *("--ranks", "2", "--isl", "64", "--isl-std", "8", "--mnt", "256", "--seed", "3", "--steps", "2"),
        *("--slice-bytes", "4KiB", "--peer-order", "interleaved", "--local-experts", "5", "--router-skew", "0.5"),
        *("--hardware", "laptop", "--over-ranks", "2"),
    )
    scenario = answer["details"]["scenario"]
    workload = scenario["workload"]
    assert (workload["isl_tokens"], workload["isl_std_tokens"], workload["mnt_tokens"]) == (64, 8, 256)
    assert (workload["seed"], workload["steps"], workload["router_skew"]) == (3, 2, 0.5)
    assert (scenario["strategy"]["slice_bytes"], scenario["strategy"]["peer_order"]) == (4096, "interleaved")
    assert (scenario["group"]["local_experts"], scenario["hardware"]) == (5, "laptop")
    assert "bound of the data sheet" in answer["details"]["provenance"]["strategies"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokens", "64", "--mnt", "64"], ["--mnt", "'64'", "--tokens"]),
        (["--isl", "many"], ["workload.isl_tokens", "'many'", "whole number"]),
        (["--hardware", "h10"], ["hardware", "'h10'", "h100"]),
        (["--over-ranks", "2;3"], ["--over-ranks", "2;3", "2,4,8"]),
        (["--model", "mixtrall-8x7b"], ["model", "mixtral-8x7b"]),
        (["--peer-order", "random"], ["strategy.peer_order", "'random'", "rotated"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder"]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_a_person_gets_tables_and_the_advice(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--ranks", "2", "--hardware", "laptop", "--tokens", "256", "--over-ranks", "2")
    assert main(["predict", *options, "--waves", "--small-batches"]) == 0
    printed = capsys.readouterr().out
    words = ("weight_gather", "tokens/s per GPU", "DWDP pays", "best found", "memory", "out of phase", "routed / all")
    assert all(word in printed for word in words)


def test_waves_and_small_batches_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--ranks", "2", "--tokens", "64", "--over-ranks", "2")
    plain = _predict(capsys, *options)["details"]
    assert (plain["waves"], plain["small_batches"]) == ([], [])
    more = _predict(capsys, *options, "--waves", "--small-batches")["details"]
    assert [row["peer_order"] for row in more["waves"]] == ["ascending", "rotated", "interleaved", "permutation"]
    shares = [row["pulled_share"] for row in more["small_batches"]]
    assert shares == sorted(shares)
    assert {row["best"] for row in more["small_batches"]} <= {"all", "routed", "dep"}


def test_physics_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--ranks", "2", "--tokens", "8192", "--over-ranks", "2")
    real, bound = (_predict(capsys, *options, *more) for more in ((), ("--physics", "bound")))
    assert bound["strategies"]["dwdp"]["step_ms"] < real["strategies"]["dwdp"]["step_ms"]
    assert "physics bound" in bound["details"]["provenance"]["strategies"]


def test_the_settings_tried_trade_memory_for_copies(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model", "qwen3-30b-a3b", "--set", "model.layers=4", "--ranks", "4", "--tokens", "2048")
    tried = _predict(capsys, *options, "--over-ranks", "4")["details"]["best"]["tried"]
    kept = [one for one in tried if one["local_experts"] > 32]
    for one in tried:
        assert one["pulled_per_peer"] == (128 - one["local_experts"]) / 3
    for fewer, more in itertools.pairwise(kept):
        assert more["local_experts"] > fewer["local_experts"]
        assert more["memory_gb"] > fewer["memory_gb"]
        assert more["exposed_copy_ms"] <= fewer["exposed_copy_ms"]
    assert kept[-1]["exposed_copy_ms"] == kept[-1]["pulled_per_peer"] == 0


@pytest.mark.parametrize(
    ("changes", "strategy", "physics", "bound"),
    [
        ({}, "dwdp", REALISTIC, "compute"),
        ({"link_gbps": 1.0}, "dwdp", REALISTIC, "link"),
        ({"link_gbps": 1.0}, "dep", REALISTIC, "link"),
        ({"workload.tokens_per_rank": 16, "workload.isl_tokens": 16}, "replicated", BOUND, "memory"),
    ],
)
def test_the_bound_is_what_costs_most(changes: dict[str, Any], strategy: Any, physics: Physics, bound: str) -> None:
    assert bound_of(SMALL.replace(**changes).with_strategy(strategy), H100, physics) == bound


def test_waiting_can_be_the_bound() -> None:
    """One rank has all the tokens and the link costs nothing: everyone else waits for its attention."""
    lopsided = SMALL.replace(
        workload={"kind": "explicit", "lengths": [[20000], [16], [16], [16]]}, link_gbps=1e6
    ).with_strategy("dep")
    shares = shorter_without(lopsided, H100, BOUND)
    assert shares["wait"] > 0.5
    assert shares["link"] < 0.01


def test_dep_takes_for_every_group_size_the_form_that_is_faster_there() -> None:
    """On one node an all-to-all moves less; to another one an all-gather sends each token once."""
    scenario = SMALL.replace(**{"model.layers": 2})
    rows = predict(scenario, H100, sizes=[4, 16]).over_ranks
    best = []
    for row in rows:
        by_form = {
            form: outcome(
                scenario.replace(
                    **{"group.ranks": row.ranks, "strategy.name": "dep", "strategy.dep_form": form},
                ),
                H100,
                REALISTIC,
            ).metrics.tokens_per_s
            for form in ("all_to_all", "all_gather")
        }
        best.append(max(by_form, key=by_form.__getitem__))
        assert row.dep_tokens_per_s_per_gpu == pytest.approx(max(by_form.values()))
    assert best == ["all_to_all", "all_gather"]


def test_the_ledger_adds_up_to_the_model() -> None:
    r1 = Scenario.create(
        model={"preset": "deepseek-r1", "expert_dtype": "nvfp4"}, group={"ranks": 4}, workload={"tokens_per_rank": 1}
    )
    whole, shared = ledger(r1, "replicated"), ledger(r1, "dwdp")
    assert shared.experts * 4 == whole.experts == 58 * 256 * r1.model.expert_bytes
    assert shared.staging == pytest.approx(2 * 4.756e9, rel=1e-3)  # the paper's two slots of remote experts
    assert ledger(r1, "dep").staging == 0
    merged = r1.replace(**{"strategy.weight_view": "merged"})
    assert ledger(merged, "dwdp").staging == pytest.approx(shared.staging * 256 / 192)
    alone = r1.replace(**{"group.local_experts": 256})
    assert placement(alone).pulled(0) == ()
    assert ledger(alone, "dwdp").staging == 0
    assert whole.gb()["total"] == pytest.approx(whole.total / 1e9)


def test_more_local_experts_trade_memory_for_copies() -> None:
    slow = SMALL.replace(link_gbps=100.0)
    best = best_settings(slow, H100, REALISTIC)
    assert best.local_experts > slow.local_experts
    assert best.step_ms < best.given_ms
    assert best.pulled_per_peer == (128 - best.local_experts) / 3
    tight = H100.model_copy(update={"memory_gb": H100.memory_gb.model_copy(update={"value": 1.0})})
    assert best_settings(slow, tight, REALISTIC).local_experts == slow.local_experts


def test_where_nothing_fits_the_best_settings_need_no_more_memory_than_the_given_ones() -> None:
    small = H100.model_copy(update={"memory_gb": H100.memory_gb.model_copy(update={"value": 1.0})})
    found = best_settings(SMALL.replace(**{"strategy.peer_order": "ascending"}), small, REALISTIC)
    given = found.tried[0]
    assert not found.fits
    assert not any(one.fits for one in found.tried)
    assert found.local_experts == given.local_experts == 32
    shortest = min(one.step_ms for one in found.tried if one.memory_gb <= given.memory_gb)
    assert shortest <= found.step_ms < given.step_ms
    assert found.step_ms * (1 - WORTH_IT) <= shortest


def test_the_crossover_separates_losing_from_winning() -> None:
    found = crossover(SMALL, H100, REALISTIC)
    assert found is not None
    for tokens, wins in ((found // 2, False), (found, True), (found * 2, True)):
        passes = SMALL.replace(**{"workload.tokens_per_rank": tokens})
        dwdp, dep = (
            outcome(passes.with_strategy(name), H100, REALISTIC).metrics.tokens_per_s
            for name in ("dwdp", "dep")  # type: ignore[arg-type]
        )
        assert (dwdp >= dep) is wins
    slower = crossover(SMALL.replace(link_gbps=200.0), H100, REALISTIC)
    assert slower is not None
    assert slower > found


def test_predict_says_what_it_does_next() -> None:
    told: list[str] = []
    predict(SMALL.replace(**{"model.layers": 1, "group.ranks": 2}), H100, sizes=[2], say=told.append)
    assert [words.removeprefix("simulating ") for words in told[:6]] == list(STRATEGIES)
    assert told[6:] == ["looking for the crossover", "trying settings of DWDP", "simulating other group sizes"]


def test_predict_is_the_same_each_time_and_takes_a_profile() -> None:
    one, two = (predict(SMALL, H100, sizes=[4]).to_dict() for _ in range(2))
    assert one == two
    assert predict(SMALL, load_hardware("mi300x"), sizes=[4]).hardware.name == "mi300x"


def test_lists_of_lengths_are_for_one_group_size() -> None:
    explicit = SMALL.replace(workload={"kind": "explicit", "lengths": [[2048], [4096], [1024], [8192]]})
    assert [row.ranks for row in predict(explicit, H100).over_ranks] == [4]


PLAIN_MEMORY = {"replicated": 100.0, "dep": 30.0, "weight_gather": 40.0, "dwdp": 35.0}
PLAIN_SPEED = {"replicated": 130.0, "dep": 100.0, "weight_gather": 90.0, "dwdp": 120.0}
PLAIN: dict[str, Any] = {
    "tokens_per_s": PLAIN_SPEED,
    "dep_exchange": 0.07,
    "dep_wait": 0.1,
    "dwdp_exposed": 0.0,
    "crossover_tokens": 9000,
    "memory_gb": PLAIN_MEMORY,
    "one_slot_gb": 34.0,
    "capacity_gb": 80.0,
    "best": Best(4, 4.0, "rotated", None, 100.0, 100.0),
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["Use DWDP: 1.20", "exchanges tokens for 7 % of its step and waits on peers for 10 %", "hidden"]),
        (
            {"tokens_per_s": {"dep": 100.0, "dwdp": 70.0}, "dwdp_exposed": 0.4},
            ["Keep DEP", "0.70", "40 %", "9,000 tokens"],
        ),
        ({"tokens_per_s": {"dep": 100.0, "dwdp": 70.0}, "crossover_tokens": None}, ["Keep DEP", "no pass"]),
        ({"tokens_per_s": {"dep": 100.0, "dwdp": 101.0}}, ["Either", "within 3 %"]),
        ({"capacity_gb": 120.0}, ["Replicate", "100 of 120 GB", "nothing that shares them"]),
        (
            {"capacity_gb": 120.0, "tokens_per_s": {"replicated": 100.0, "dep": 110.0, "dwdp": 95.0}},
            ["Use DEP: 1.10 times", "replicated experts", "100 of 120 GB"],
        ),
        (  # what does not fit is no advice, however fast
            {
                "capacity_gb": 120.0,
                "memory_gb": {**PLAIN_MEMORY, "dep": 130.0},
                "tokens_per_s": {"replicated": 100.0, "dep": 110.0, "dwdp": 95.0},
            },
            ["Replicate"],
        ),
        ({"capacity_gb": 20.0}, ["more ranks", "35 GB"]),
        ({"capacity_gb": 32.0}, ["Keep DEP: DWDP needs 35 GB", "32 GB", "more ranks"]),
        (  # one staging slot less, and it fits
            {"capacity_gb": 32.0, "one_slot_gb": 31.0},
            ["Keep DEP: DWDP needs 35 GB per rank (31 with one staging slot, strategy.slots=1)", "more ranks"],
        ),
        (  # DWDP does not fit, and something that does is faster than DEP
            {"memory_gb": {**PLAIN_MEMORY, "dwdp": 90.0}, "tokens_per_s": PLAIN_SPEED | {"weight_gather": 125.0}},
            ["Use an all-gather of weights", "1.25 times the tokens per GPU of DEP: DWDP needs 90 GB", "more ranks"],
        ),
        (  # nor does DEP
            {"memory_gb": {**PLAIN_MEMORY, "dwdp": 90.0, "dep": 85.0}},
            ["Use an all-gather of weights, the fastest that fits: DWDP needs 90 GB", "more ranks"],
        ),
        (  # neither of the two is best
            {"tokens_per_s": {"replicated": 130.0, "dep": 100.0, "weight_gather": 132.0, "dwdp": 120.0}},
            ["Use an all-gather of weights: 1.10 times", "of DWDP"],
        ),
        (  # unless it does not fit
            {
                "tokens_per_s": {"replicated": 130.0, "dep": 100.0, "weight_gather": 132.0, "dwdp": 120.0},
                "memory_gb": {**PLAIN_MEMORY, "weight_gather": 90.0},
            },
            ["Use DWDP: 1.20"],
        ),
        (
            {"best": Best(8, 3.0, "interleaved", 1 << 20, 90.0, 100.0)},
            ["8 local experts", "interleaved order in slices of 1 MiB", "10 % shorter"],
        ),
    ],
)
def test_advice_is_one_sentence_that_says_why(changes: dict[str, Any], words: list[str]) -> None:
    advice = advise(**{**PLAIN, **changes})
    assert advice.endswith(".")
    for word in words:
        assert word in advice


def test_one_slot_is_offered_where_it_makes_dwdp_fit_whatever_the_distance_was() -> None:
    scenario = SMALL.replace(**{"strategy.prefetch_distance": 2})
    needs = {
        slots: ledger(scenario.replace(**{"strategy.slots": slots, "strategy.prefetch_distance": None}), "dwdp")
        for slots in (1, 2)
    }
    between = (needs[1].total + needs[2].total) / 2e9
    tight = H100.model_copy(update={"memory_gb": H100.memory_gb.model_copy(update={"value": between})})
    assert "with one staging slot, strategy.slots=1" in predict(scenario, hardware=tight, sizes=[4]).advice
