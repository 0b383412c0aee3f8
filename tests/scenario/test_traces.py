"""Trace files: their formats, what is wrong with broken ones, and the real ones where they are found."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest

from dwdp_lab.scenario import Scenario, ScenarioError
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.scenario.traces import TraceRequest, read_trace

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
"""The traces themselves are not shipped; tests use them where they lie beside the checkout."""

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,4808,10\n2023-11-16 18:17:04.03,3180,8\n"
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
    "\n"
    '{"timestamp": 3, "input_length": 700, "output_length": 5, "hash_ids": [0, 7]}\n'
)


def real(name: str) -> Path:
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"the trace {name} is not in shared/data beside the checkout")
    return path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_azure(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, "a.csv", AZURE)) == (TraceRequest(4808), TraceRequest(3180))
    assert read_trace(write(tmp_path, "marked.csv", "\ufeff" + AZURE))[0] == TraceRequest(4808)


def test_mooncake(tmp_path: Path) -> None:
    path = write(tmp_path, "m.jsonl", MOONCAKE)
    assert read_trace(path) == (TraceRequest(1030, (0, 1, 2)), TraceRequest(700, (0, 7)))


def test_lists_of_lengths(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, "l.json", '{"lengths": [3, 1]}')) == (TraceRequest(3), TraceRequest(1))


def test_skip_and_requests_choose_a_window(tmp_path: Path) -> None:
    path = write(tmp_path, "l.json", '{"lengths": [1, 2, 3, 4, 5]}')
    assert [length for length, _ in read_trace(path, skip=1, requests=3)] == [2, 3, 4]
    assert [length for length, _ in read_trace(path, skip=3)] == [4, 5]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, "l.json", '{"lengths": [1]}')
    assert read_trace(path) == (TraceRequest(1),)
    path.write_text('{"lengths": [22]}', encoding="utf-8")
    assert read_trace(path) == (TraceRequest(22),)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "TIMESTAMP,Tokens\n1,2\n", "needs a column ContextTokens"),
        ("a.csv", "", "needs a column ContextTokens"),
        ("a.csv", AZURE + "2023,-4,1\n", r"a\.csv:4: -4"),
        ("a.csv", AZURE + "2023\n", r"a\.csv:4: None"),
        ("m.jsonl", MOONCAKE + "{oops\n", r"m\.jsonl:4"),
        ("m.jsonl", '{"output_length": 3}\n', "input_length"),
        ("m.jsonl", "[3]\n", "input_length"),
        ("m.jsonl", '{"input_length": "long"}\n', r"m\.jsonl:1: long"),
        ("m.jsonl", '{"input_length": 3, "hash_ids": 4}\n', r"m\.jsonl:1"),
        ("m.jsonl", '{"input_length": 3, "hash_ids": [[4]]}\n', "hash_ids are whole numbers"),
        ("l.json", "[1, 2]", "lengths"),
        ("l.json", '{"lengths": 3}', "lengths"),
        ("l.json", '{"lengths": [3, 0]}', r"l\.json:2: 0"),
        ("l.json", '{"lengths": [2.5]}', r"l\.json:1: 2\.5"),
        ("l.json", '{"lengths": "123"}', "lengths"),
        ("l.json", '{"lengths": {"5": 1}}', "lengths"),
        ("l.json", '{"lengths": [1' + "0" * 5000 + "]}", "lengths"),
        ("l.json", '{"lengths": [1' + "0" * 400 + "]}", "from 1 to 1000000000"),
        ("l.json", "[" * 100_000, "lengths"),
        ("m.jsonl", "[" * 100_000, r"m\.jsonl:1"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "has no requests"),
        ("l.txt", "3", r"\.csv, \.jsonl, \.json"),
    ],
)
def test_broken_files_are_refused_with_their_place(name: str, text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=says) as caught:
        read_trace(write(tmp_path, name, text))
    assert caught.value.field == "workload.file"


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    for ending in ("csv", "jsonl", "json"):
        path = tmp_path / f"binary.{ending}"
        path.write_bytes(b"\xff\xfe\x00\x81")
        with pytest.raises(ScenarioError, match="binary") as caught:
            read_trace(path)
        assert caught.value.field == "workload.file"


def test_too_few_requests_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "l.json", '{"lengths": [1, 2, 3]}')
    with pytest.raises(ScenarioError, match=r"^workload\.requests = 4: .*has 3 requests"):
        read_trace(path, requests=4)
    with pytest.raises(ScenarioError, match=r"^workload\.skip = 3: .*has 3 requests"):
        read_trace(path, skip=3)
    with pytest.raises(ScenarioError, match=r"^workload\.requests = 3: .*has 3 requests, 1 after the skipped"):
        read_trace(path, skip=2, requests=3)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ScenarioError, match="azure-2023-code-64, azure-2023-conv-64, mooncake-conversation-64"):
        read_trace(Path("azure"))


SHIPPED = {
    "azure-2023-conv-64": ("azure-2023-conv.csv", 19_366),
    "azure-2023-code-64": ("azure-2023-code.csv", 8_819),
    "mooncake-conversation-64": ("mooncake-conversation.jsonl", 12_031),
}


def test_shipped_lists_name_source_and_licence() -> None:
    files = shipped("lengths", ".json")
    assert set(files) == set(SHIPPED)
    for path in files.values():
        source = json.loads(path.read_text(encoding="utf-8"))["_source"]
        assert "Cite" in source
        assert "CC-BY 4.0" in source or "Apache-2.0" in source
        assert len(read_trace(path)) == 64


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_lists_are_the_traces_quantiles(name: str) -> None:
    trace, requests = SHIPPED[name]
    lengths = sorted(length for length, _ in read_trace(real(trace)))
    assert len(lengths) == requests
    quantiles = [lengths[int((i + 0.5) / 64 * requests)] for i in range(64)]
    random.Random(2026).shuffle(quantiles)
    assert [length for length, _ in read_trace(Path(name))] == quantiles
    assert statistics.fmean(quantiles) == pytest.approx(statistics.fmean(lengths), rel=0.01)


def test_mooncake_hits_shorten_what_is_computed() -> None:
    path = real("mooncake-conversation.jsonl")
    workload = {"kind": "trace", "file": str(path), "requests": 200, "mnt_tokens": 32768}
    with_cache = Scenario.create(workload=workload).batches
    without = Scenario.create(workload={**workload, "prefix_cache": False}).batches
    computed = [sum(batches.tokens(rank) for rank in range(2)) for batches in (with_cache, without)]
    assert computed[1] == sum(length for length, _ in read_trace(path, requests=200))
    assert computed[0] < computed[1]
    # in both, each request ends with the same number of tokens in its cache
    ends = [
        {c.request: c.context_tokens + c.new_tokens for steps in batches.by_rank for batch in steps for c in batch}
        for batches in (with_cache, without)
    ]
    assert ends[0] == ends[1]


def test_azure_requests_of_a_whole_trace_are_computed_once() -> None:
    path = real("azure-2023-conv.csv")
    workload = {"kind": "trace", "file": str(path), "mnt_tokens": 8192, "assign": "least_loaded"}
    batches = Scenario.create(group={"ranks": 4}, workload=workload).batches
    total = sum(batches.tokens(rank) for rank in range(4))
    assert total == sum(length for length, _ in read_trace(path))
    assert max(batches.tokens(r) for r in range(4)) - min(batches.tokens(r) for r in range(4)) <= 14_050
