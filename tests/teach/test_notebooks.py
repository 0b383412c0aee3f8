"""Learners' notebooks follow from the solutions, byte for byte, and the shipped ones are up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.teach.learner import learner
from dwdp_lab.teach.notebook_form import as_text, canonical
from dwdp_lab.teach.notebooks import execute, main, out_of_date, regenerate

SHIPPED = Path(__file__).parents[2] / "notebooks"


def code(source: str, **more: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {"tags": ["nbval-ignore-output"], "collapsed": True},
        "execution_count": 7,
        "outputs": [],
        "source": source,
        **more,
    }


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {"widgets": {}}, "nbformat": 4, "nbformat_minor": 4}


def write(folder: Path, made: dict[str, Any]) -> Path:
    path = folder / "solutions" / "00_first.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(made))
    return path


REGION = """\
before = 1
if True:
    # solution begin
    #: answer = ...  # yours
    answer = 42
    # solution end
print()"""


def test_shipped_notebooks_are_up_to_date() -> None:
    assert list(SHIPPED.glob("*.ipynb"))
    assert out_of_date(SHIPPED) == []


def test_shipped_notebooks_are_small_and_name_no_machine() -> None:
    for path in SHIPPED.rglob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert len(text) < 500_000, path
        for word in ("/home/", "/tmp/", "/Users/", "Traceback"):
            assert word not in text, (path, word)


def test_a_region_becomes_its_stub() -> None:
    [cell] = learner(notebook(code(REGION)))["cells"]
    assert "".join(cell["source"]) == "before = 1\nif True:\n    answer = ...  # yours\nprint()"
    assert cell["outputs"] == []
    assert cell["execution_count"] is None
    assert cell["metadata"] == {"tags": ["nbval-ignore-output"]}


def test_a_solution_keeps_text_and_svg_and_nothing_else() -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "a\nb\n"},
        {
            "output_type": "execute_result",
            "execution_count": 7,
            "metadata": {"isolated": True},
            "data": {"image/svg+xml": "<svg/>", "image/png": "xxx", "text/plain": ["Picture"]},
        },
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"},
        },
    ]
    made = canonical(
        notebook({"cell_type": "markdown", "metadata": {}, "source": "# Title"}, code("x", outputs=outputs))
    )
    assert [cell["id"] for cell in made["cells"]] == ["cell-00", "cell-01"]
    assert made["cells"][1]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]},
        {
            "output_type": "execute_result",
            "execution_count": 7,
            "metadata": {},
            "data": {"image/svg+xml": ["<svg/>"], "text/plain": ["Picture"]},
        },
    ]
    assert "widgets" not in made["metadata"]
    assert as_text(canonical(made)) == as_text(made)


def test_a_stream_is_kept_whole_however_it_arrived() -> None:
    def piece(name: str, text: str) -> dict[str, Any]:
        return {"output_type": "stream", "name": name, "text": text}

    pieces = [piece("stdout", "one "), piece("stdout", "line\nan"), piece("stdout", "other"), piece("stderr", "!")]
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": pieces}
    (kept,) = canonical({"cells": [cell]})["cells"]
    assert [(output["name"], output["text"]) for output in kept["outputs"]] == [
        ("stdout", ["one line\n", "another"]),
        ("stderr", ["!"]),
    ]


def test_a_solution_that_ends_in_an_error_is_refused(tmp_path: Path) -> None:
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    write(tmp_path, notebook(code("x", outputs=[failed])))
    with pytest.raises(ValueError, match=r"00_first.ipynb: a cell ends in an error: ValueError: no"):
        regenerate(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "# solution begin\n#: x = ...",
        "# solution end",
        "# solution begin\nx = 1\n# solution end",
        "# solution begin\n#: x\n# solution begin\n# solution end",
    ],
)
def test_wrong_regions_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"^cell-00: '# solution"):
        learner(notebook(code(source)))


def test_check_finds_what_regenerating_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = write(tmp_path, notebook(code(REGION)))
    folder = ["--folder", str(tmp_path)]
    assert main([*folder, "--check"]) == 1
    assert f"{tmp_path / '00_first.ipynb'}: missing" in capsys.readouterr().out
    assert main(folder) == 0
    assert main([*folder, "--check"]) == 0
    assert regenerate(tmp_path) == []
    (tmp_path / "00_first.ipynb").write_text("{}")
    (tmp_path / "99_stray.ipynb").write_text("{}")
    assert [line.split(": ")[1] for line in out_of_date(tmp_path)] == [
        "differs from what its solution makes",
        f"has no solution in {solution.parent}",
    ]


def test_only_named_notebooks_are_renewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = write(tmp_path, notebook(code(REGION)))
    (solution.parent / "01_second.ipynb").write_text("half a file")
    assert main(["--folder", str(tmp_path), "00_first.ipynb"]) == 0
    assert (tmp_path / "00_first.ipynb").exists()
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), "02_third.ipynb"])
    assert "02_third.ipynb: no such solution; known are 00_first.ipynb, 01_second.ipynb" in capsys.readouterr().err


def test_a_folder_without_solutions_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path)])
    assert "has no folder `solutions`" in capsys.readouterr().err


def test_executing_renews_the_outputs(tmp_path: Path) -> None:
    solution = write(tmp_path, notebook(code("print(6 * 7)", metadata={})))
    made = json.loads(solution.read_text())
    made["nbformat_minor"] = 5
    made["cells"][0]["id"] = "first"
    solution.write_text(json.dumps(made))
    execute(solution)
    [cell] = json.loads(solution.read_text())["cells"]
    assert cell["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["42\n"]}]
    assert cell["execution_count"] == 1
