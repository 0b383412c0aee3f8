"""Starting and ending servers that keep everything they write in one folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0


class NoServerError(Exception):
    """A server did not start; the message has its log."""


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab on folder/root; put `tree/NOTEBOOK` for `{place}`."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # the pop-up would cover the page
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet), encoding="utf-8")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0"]
    command.append(f"--ServerApp.root_dir={folder / 'root'}")
    if os.geteuid() == 0:
        command.append("--allow-root")
    process = start(command, folder)
    try:
        server = running_server(folder, process)
        yield f"{server['url']}lab/{{place}}?reset&token={server['token']}"
    finally:
        end(process)


def environment(folder: Path) -> dict[str, str]:
    """That of a server whose configuration, signatures and runtime files are in the folder."""
    own = {
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        "IPYTHONDIR": folder / "ipython",
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **{name: str(place) for name, place in own.items()}, "PYTHONPATH": path}


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A server whose files and log are in the folder."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, env=environment(folder), cwd=folder / "root", stdout=log, stderr=subprocess.STDOUT
        )


def running_server(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    """What the server says of itself (address, token), once it answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for file in (folder / "runtime").glob("jpserver-*.json"):
            server: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
            if answers(f"{server['url']}api?token={server['token']}"):
                return server
        time.sleep(0.1)
    raise NoServerError(f"JupyterLab did not start:\n{(folder / 'log').read_text(encoding='utf-8')[-2000:]}")


def write_notebook(path: Path, *cells: list[str]) -> None:
    """A notebook of code cells, each given as its lines."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**empty, "id": f"cell-{place}", "source": "\n".join(lines)} for place, lines in enumerate(cells)]
    notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def answers(address: str) -> bool:
    """Whether a server answers there."""
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and its kernels."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether a server takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
