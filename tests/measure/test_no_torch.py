"""Modules that say they need no torch load without it: predictions are compared on machines that have none."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_says_no_torch_loads_none() -> None:
    says = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted(ROOT.glob("dwdp_lab/measure/**/*.py"))
        if "No torch" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    ]
    assert len(says) > 10
    code = "\n".join(f"import {name}" for name in says)
    code += "\nimport sys\nassert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
