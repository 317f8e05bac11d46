"""Light curves of simulated transits: scatter beside the photon limit, and depth.

A bright star (0.1 Jy) is observed without the slit, with 0.2% lost pixels and 0.1% cosmic rays in
each integration, 1% hot pixels, and a drift of 0.05 columns. It is extracted in chunks with a
background, with `time_outliers` "replace" and `drift` "correct". The photon limit follows from the
truth of the simulation.
"""

from __future__ import annotations

import numpy as np

from tests.helpers.transits import Transit, transit

#: Seeds that no test uses.
FIRST_SEED = 960_000


def benchmark_light_curves(integrations: int, number: int) -> None:
    """Print scatter and depth of the white light curve and of 20 bins, for several scenes."""
    print(
        f"{number} simulated light curves of {integrations} integrations\n"
        "  scatter / photon limit of the sum; error of the depth / its error (mean, rms)"
    )
    for depth in (0.01, 0.5):
        for weights in ("sum", "inverse_variance"):
            found = [
                transit(integrations, depth, seed=FIRST_SEED + seed, weights=weights)
                for seed in range(number)
            ]
            for name, bands in (("white", slice(0, 1)), ("20 bins", slice(1, None))):
                print(f"  {depth:4.0%}  {weights:17s} {name:8s} {_line(found, bands)}", flush=True)


def _line(found: list[Transit], bands: slice) -> str:
    ratio = np.sqrt(np.mean([one.scatter_ratio[bands] ** 2 for one in found]))
    expected = np.mean(
        [(one.curve.expected_noise / one.curve.level / one.limit)[bands] for one in found]
    )
    pulls = np.array([one.depth_pulls[bands] for one in found])
    limit = 1e6 * np.mean([one.limit[bands] for one in found])
    return (
        f"scatter {ratio:.3f}, expected {expected:.3f} (of {limit:.0f} ppm); "
        f"depth {pulls.mean():+.2f}, {np.sqrt((pulls**2).mean()):.2f}"
    )
