"""How ranks of one host find each other, without connecting any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch.distributed as dist

from dwdp_lab.execute.cpu.process_group import join_process_group


class Session(NamedTuple):
    folder: Path
    rank: int = 1
    ranks: int = 3


@pytest.mark.parametrize("chosen", [None, "eth7"])
def test_ranks_of_a_host_talk_over_loopback_unless_told_otherwise(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """gloo would look up the host's name, which need not lead anywhere."""
    joined: list[dict[str, Any]] = []
    monkeypatch.setattr(dist, "is_initialized", lambda: bool(joined))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: joined.append(more | {"backend": backend}))
    monkeypatch.setattr("socket.if_nameindex", lambda: [(2, "eth0"), (1, "lo")])
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    if chosen is not None:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", chosen)
    session: Any = Session(tmp_path)
    join_process_group(session)
    join_process_group(session)  # a second time does nothing
    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == (chosen or "lo", "lo")
    (group,) = joined
    assert (group["backend"], group["rank"], group["world_size"], group["device_id"]) == ("gloo", 1, 3, None)
