"""Whatever was imported before, a name of the room is what it stands for and not a module of that name."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import dwdp_lab
from dwdp_lab import view


@pytest.mark.parametrize("room", [dwdp_lab, view], ids=["dwdp_lab", "view"])
def test_no_public_name_is_the_name_of_a_module_beside_it(room: ModuleType) -> None:
    modules = {module.name for module in pkgutil.iter_modules(room.__path__)}
    assert not [name for name in room.__all__ if name in modules and not isinstance(getattr(room, name), ModuleType)]


def test_a_figure_can_be_made_after_its_module_was_imported() -> None:
    importlib.import_module("dwdp_lab.view.imbalance_panel")  # which imports the module of the figure
    assert callable(view.timeline_figure)
