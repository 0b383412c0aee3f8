"""A notebook's kernel: started as JupyterLab starts it, and asked which Python it is."""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

WAIT_S = 60.0  # whoever asks has a shorter limit
CODE = "import json, sys, dwdp_lab; print(json.dumps([sys.prefix, dwdp_lab.__version__]))"


class KernelFacts(NamedTuple):
    """`trouble` is what the kernel answered instead."""

    same_python: bool
    lab_version: str
    trouble: str


def probe() -> KernelFacts:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=WAIT_S)
    said: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "error":
            said.append(f"{content['ename']}: {content['evalue']}")

    try:
        reply = client.execute_interactive(CODE, output_hook=keep, timeout=WAIT_S)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        return KernelFacts(False, "", "".join(said))
    prefix, version = json.loads("".join(said))
    return KernelFacts(prefix == sys.prefix, version, "")
