"""How a person finds things in the control room's page."""

from __future__ import annotations

from typing import Any

LONG_MS = 45_000

WATCH = """() => {
  const root = document.querySelector('.dwdp-timeline');
  window.took = [];
  let since = 0;
  document.addEventListener('keydown', () => { since = performance.now(); }, true);
  new MutationObserver(() => {
    if (!since) return;
    const began = since;
    since = 0;
    requestAnimationFrame(() => {  // and after the frame in which it is painted
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.took.push(performance.now() - began);
      channel.port2.postMessage(0);
    });
  }).observe(root, { attributes: true, attributeFilter: ['data-drawn'] });
}"""
"""Notes in `took` how many ms pass from a key to the picture that follows from it."""


class Panel:
    """The control room in a page."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def open(self, address: str) -> None:
        """Open the dashboard and run its cell."""
        self.page.goto(address)
        cell = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").first
        cell.wait_for(timeout=LONG_MS)
        self.page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=LONG_MS)
        prompt = cell.locator(".jp-InputPrompt")
        for _ in range(10):  # JupyterLab forgets a run that comes while it connects to the kernel
            cell.locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Control+Enter")
            self.page.wait_for_timeout(500)
            if prompt.inner_text().strip() != "[ ]:":
                break
        self.drawn()

    def drawn(self) -> None:
        """Wait until a timeline is shown."""
        self.page.locator(".dwdp-timeline[data-drawn]").wait_for(timeout=LONG_MS)
        self.page.evaluate("document.querySelector('.dwdp-room').scrollIntoView()")

    def knob(self, name: str) -> Any:
        return self.page.locator(f".dwdp-knob-{name}")

    def button(self, name: str) -> Any:
        return self.page.locator(".dwdp-room").get_by_role("button", name=name, exact=True)

    @property
    def words(self) -> str:
        words: str = self.page.locator(".dwdp-words").inner_text()
        return words

    @property
    def provenances(self) -> list[str]:
        found: list[str] = self.page.locator(".dwdp-worth").all_inner_texts()
        return found

    def after(self, act: Any) -> str:
        """Do something and wait for the picture that follows; returns the new words."""
        count = self.page.locator(".dwdp-timeline").get_attribute("data-drawn")
        before = self.words
        act()
        self.page.wait_for_function(
            "([drawn, words]) => document.querySelector('.dwdp-timeline').dataset.drawn !== drawn"
            " && document.querySelector('.dwdp-words').innerText !== words",
            arg=[count, before],
            timeout=LONG_MS,
        )
        return self.words

    def idle(self, ends: str) -> None:
        """Wait until the runs are idle and say so."""
        self.page.wait_for_function(
            "ends => document.querySelector('.dwdp-pill').dataset.phase === 'idle'"
            " && document.querySelector('.dwdp-doing').innerText === ends",
            arg=ends,
            timeout=LONG_MS,
        )
