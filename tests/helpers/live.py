"""Assertions and shortcuts for tests of live extractions."""

from __future__ import annotations

from typing import Any

import numpy as np

from glue_lrs import Extract1D, Extraction
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.viewers import LiveExtraction


def assert_same(one: Extraction | None, other: Extraction) -> None:
    """All columns are identical."""
    assert one is not None
    for name in COLUMNS:
        np.testing.assert_array_equal(one.columns[name], other.columns[name], err_msg=name)


def assert_shows(live: LiveExtraction, operator: Extract1D) -> None:
    """The operator is committed, and its result is the extraction, the spectrum and the dataset."""
    assert live.extract == operator
    assert live.operator == operator
    expected = operator.run(live.shown)
    assert_same(live.extraction, expected)
    order = np.argsort(expected.wavelength)
    data = live.spectrum_data
    row = data["row"].astype(int)
    assert (np.diff(data["wavelength"]) > 0).all()
    if expected.wavelength.size == row.size:
        for name, column in (("flux", "FLUX"), ("uncertainty", "FLUX_ERROR")):
            np.testing.assert_array_equal(data[name], expected.columns[column][order])
        np.testing.assert_allclose(data["wavelength"], live.row_wavelength[row], rtol=1e-6)
    spectrum = live.spectrum
    good = ~expected.mask[order]
    np.testing.assert_array_equal(spectrum.flux.value[good], expected.columns["FLUX"][order][good])


def undo(live: LiveExtraction) -> None:
    """Undo the last command of glue's stack."""
    live.session.command_stack.undo()


def redo(live: LiveExtraction) -> None:
    """Redo the next command of glue's stack."""
    live.session.command_stack.redo()


def ends(live: LiveExtraction) -> tuple[np.ndarray, np.ndarray]:
    """Rows and wavelengths, as the methods of a region take them."""
    return live.rows, live.row_wavelength


def columns_of(live: LiveExtraction) -> Any:
    """Component of the columns of the image."""
    return live.data.pixel_component_ids[-1]


def rows_of(live: LiveExtraction) -> Any:
    """Component of the rows of the image."""
    return live.data.pixel_component_ids[-2]


def masks(live: LiveExtraction) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are selected in the image, and in the spectrum."""
    (group,) = live.session.data_collection.subset_groups
    image, spectrum = (
        next(s for s in group.subsets if s.data is data).to_mask()
        for data in (live.data, live.spectrum_data)
    )
    if image.ndim == 3:
        assert (image == image[0]).all()
        image = image[0]
    assert (image.all(axis=1) == image.any(axis=1)).all()
    rows = np.zeros(image.shape[0], dtype=bool)
    rows[live.spectrum_data["row"][spectrum].astype(int)] = True
    return image.all(axis=1), rows


def execute(code: str) -> Any:
    """Run lines of Python and return the spectrum that they make."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names["spectrum"]


def assert_repeats(live: LiveExtraction) -> None:
    """The Python code reproduces the spectrum."""
    code = live.python()
    made, expected = execute(code), live.spectrum
    np.testing.assert_array_equal(made.flux.value, expected.flux.value)
    np.testing.assert_array_equal(made.uncertainty.array, expected.uncertainty.array)
    np.testing.assert_array_equal(made.spectral_axis.value, expected.spectral_axis.value)
    assert max(map(len, code.splitlines())) < 160
