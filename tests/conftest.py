"""What several test modules use."""

from __future__ import annotations

import os

# Before anybody imports Qt: no screen is needed; pytest-qt, which would take PySide6 wherever it
# is, and qtpy must agree on the binding.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_API", "pyqt6")
os.environ["PYTEST_QT_API"] = os.environ["QT_API"]

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from hypothesis import settings

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT

# The same examples each time: a test that fails now and then is of no use.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

#: Markers of whole folders; single tests elsewhere that need jwst are marked one by one. All tests
#: with these markers are also marked as slow, because the fast subset needs neither jwst nor Qt.
_MARKERS = {
    "parity": "parity",
    "truth": "truth",
    "viewers/qt": "desktop",
    "viewers/jupyter": "notebook",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a folder, and those outside the fast subset."""
    here = Path(__file__).parent
    for item in items:
        for folder, marker in _MARKERS.items():
            if item.path.is_relative_to(here / folder):
                item.add_marker(marker)
        if any(item.get_closest_marker(marker) for marker in _MARKERS.values()):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def numpy_warns() -> Iterator[None]:
    """Warn of invalid operations as on the command line: glue, where it is imported, does not."""
    with np.errstate(divide="warn", over="warn", invalid="warn"):
        yield


@pytest.fixture
def make_image() -> Callable[..., SlitImage]:
    """A small image without a WCS: what the arithmetic needs and no more."""

    def make(shape: tuple[int, ...] = (30, 20), seed: int = 1, **changes: Any) -> SlitImage:
        rng = np.random.default_rng(seed)
        rows, columns = shape[-2:]
        wavelength = np.linspace(14.0, 5.0, rows)[:, np.newaxis] * np.ones(columns)
        values: dict[str, Any] = {
            "data": rng.normal(10.0, 1.0, shape).astype(np.float32),
            "wavelength": wavelength.astype(np.float32),
            "unit": u.Unit("MJy/sr"),
            "exp_type": FIXED_SLIT,
            "pixel_area": 2.86e-13,
            "source_type": "POINT",
            "subarray": "FULL",
            "kind": "calints" if len(shape) == 3 else "s2d",
        }
        for name in ("var_poisson", "var_rnoise", "var_flat"):
            values[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        values["err"] = np.sqrt(sum(values[n] for n in values if n.startswith("var")))
        return SlitImage(**values | changes)

    return make
