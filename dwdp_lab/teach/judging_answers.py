"""One right answer to each exercise of the lesson on judging."""

from __future__ import annotations


def most_local(
    experts: int, ranks: int, layers: int, expert_bytes: int, slots: int, free_bytes: int
) -> tuple[int, int] | None:
    for pulled in range(experts):
        local = experts - (ranks - 1) * pulled
        if local < pulled:  # the windows of neighbours would leave a gap: some expert would have no owner
            return None
        if (layers * local + slots * (experts - local)) * expert_bytes <= free_bytes:
            return local, pulled
    return None


def ttft_ms(service_ms: float, load: float) -> float:
    # Pollaczek and Khinchine, for services that all take equally long
    waiting_ms = service_ms * load / (2 * (1 - load))
    return waiting_ms + service_ms
