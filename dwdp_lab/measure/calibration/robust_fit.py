"""Times explained by costs: each cost at least zero, the least absolute relative errors. No torch.

Machines are disturbed, and a disturbed sample is too long by any factor. Errors count relative to the time, so that
short samples say as much as long ones, and once, not squared, so that a few far samples do not pull the others along.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 60
CLOSE = 0.005
"""Relative errors below this are as good as none."""


def robust_fit(costs: Floats, times: Floats) -> Floats:
    """x >= 0 such that `costs` [samples, m] times x comes close to `times` [samples], all above zero.

    Least absolute deviations by iteratively reweighted least squares: convex, so where it ends does not depend on where
    it starts. Raises ValueError for fewer samples than there are costs that occur.
    """
    used = costs.any(axis=0)
    if len(times) < used.sum():
        raise ValueError(f"{len(times)} samples cannot tell {int(used.sum())} costs apart")
    relative = costs / times[:, None]
    scale = np.where(used, np.abs(relative).max(axis=0, initial=0.0), 1.0)
    matrix = relative / scale
    weights = np.ones(len(times))
    found = np.zeros(costs.shape[1])
    for _ in range(ROUNDS):
        found = nonnegative(matrix * weights[:, None], weights)
        weights = 1.0 / np.sqrt(np.maximum(np.abs(matrix @ found - 1.0), CLOSE))
    return found / scale


def nonnegative(matrix: Floats, target: Floats) -> Floats:
    """The x >= 0 with the least |matrix x - target|: active sets, after Lawson and Hanson, "Solving Least Squares
    Problems" (1974), chapter 23."""
    count = matrix.shape[1]
    found = np.zeros(count)
    free = np.zeros(count, dtype=bool)
    for _ in range(10 * count + 10):
        gain = matrix.T @ (target - matrix @ found)
        gain[free] = -np.inf
        if free.all() or gain.max() <= 1e-12 * max(1.0, float(np.abs(matrix).sum())):
            break
        free[int(gain.argmax())] = True
        while True:
            trial = np.zeros(count)
            trial[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            negative = free & (trial <= 0.0)
            if not negative.any():
                found = trial
                break
            # as far towards the trial as nothing gets negative; what is at zero then stays there
            steps = found[negative] / np.maximum(found[negative] - trial[negative], 1e-300)
            found = found + float(steps.min()) * (trial - found)
            free &= found > 1e-15 * max(1.0, float(np.abs(found).max()))
            found[~free] = 0.0
    return found
