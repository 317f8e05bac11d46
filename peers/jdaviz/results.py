"""Results of the plugins of jdaviz for a spectrum, as plain values.

As a program, print the results for files as JSON: ``python results.py [--without] FILE ...``. With
``--without``, the plugins of glue_lrs are hidden from glue.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import glue._plugin_helpers
import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from jdaviz import Specviz, Specviz2d
from specutils import SpectralRegion

#: Range of wavelengths that is selected as a subset.
REGION = SpectralRegion(7 * u.um, 9 * u.um)


def specviz_results(source: Any) -> tuple[Specviz, dict[str, Any]]:
    """Load a spectrum in Specviz, and use each plugin on it."""
    app = Specviz()
    app.load(source)
    return app, _plugin_results(app, app.app.data_collection[0].label)


def specviz2d_results(source: Any) -> tuple[Specviz2d, dict[str, Any]]:
    """Load an image in Specviz2d, and use each plugin on it and on the extracted spectrum."""
    app = Specviz2d()
    app.load(source, format="2D Spectrum")
    image, extracted = app.app.data_collection[:2]
    viewer = app.app.get_viewer("spectrum-2d-viewer")
    state = viewer.state
    return app, {
        "image": _described(image),
        "image limits": [state.x_min, state.x_max, state.y_min, state.y_max],
        "image metadata": _attempt(lambda: _metadata(app, image.label)),
        "extraction": _attempt(lambda: _values(_extraction(app).spectrum)),
        **_plugin_results(app, extracted.label),
    }


def boxcar(app: Specviz2d) -> Any:
    """Return the extraction of Specviz2d from the image itself, without a background."""
    plugin = app.plugins["2D Spectral Extraction"]
    plugin.ext_dataset = app.app.data_collection[0].label
    return plugin.export_extract()


def _extraction(app: Specviz2d) -> Any:
    return app.plugins["2D Spectral Extraction"].export_extract()


def _plugin_results(app: Any, label: str) -> dict[str, Any]:
    """Return the result of each plugin for a spectrum; an error as its type and message."""
    data = app.app.data_collection[label]
    steps: dict[str, Callable[[], Any]] = {
        "data": lambda: _described(data),
        "get_data": lambda: _values(app.get_data(label)),
        "Metadata": lambda: _metadata(app, label),
        "Plot Options": lambda: _uncertainty_band(app),
        "Model Fitting": lambda: _fit(app, label),
        "Line Analysis": lambda: _lines(app, label, "Entire Spectrum"),
        "Subset Tools": lambda: _subset(app),
        "Line Analysis of a subset": lambda: _lines(app, label, "Subset 1"),
        "get_data of a subset": lambda: _values(app.get_data(label, spectral_subset="Subset 1")),
        "Gaussian Smooth": lambda: _smooth(app, label),
        "Export": lambda: _export(app),
        "Unit Conversion": lambda: _convert(app),
    }
    return {name: _attempt(step) for name, step in steps.items()}


def _attempt(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except Exception as error:  # the results of an application without glue_lrs include errors
        return f"{type(error).__name__}: {error}"


def _described(data: Any) -> dict[str, Any]:
    return {
        "shape": list(data.shape),
        "coordinates": type(data.coords).__name__,
        "components": [component.label for component in data.main_components],
    }


def _values(spectrum: Any) -> dict[str, Any]:
    error = spectrum.uncertainty
    if error is not None:
        error = error.represent_as(StdDevUncertainty).array
    return {
        "axis": np.asarray(spectrum.spectral_axis.to_value(u.um)).tolist(),
        "flux": np.asarray(spectrum.flux.value).tolist(),
        "unit": str(spectrum.flux.unit),
        "error": None if error is None else np.asarray(error).tolist(),
        "mask": None if spectrum.mask is None else np.asarray(spectrum.mask).tolist(),
    }


def _metadata(app: Any, label: str) -> list[str]:
    plugin = app.plugins["Metadata"]
    plugin.dataset = label
    return [str(row[0]) for row in plugin.metadata]


def _uncertainty_band(app: Any) -> list[list[float]]:
    """Show the uncertainties, and return the lower and upper limit of the band in the viewer."""
    options = app.plugins["Plot Options"]
    options.viewer = "spectrum-viewer"
    options.uncertainty_visible = True
    marks = app.app.get_viewer("spectrum-viewer").figure.marks
    (band,) = [mark for mark in marks if type(mark).__name__ == "LineUncertainties"]
    options.uncertainty_visible = False
    return np.asarray(band.y).reshape(2, -1).tolist()


def _fit(app: Any, label: str) -> list[float]:
    plugin = app.plugins["Model Fitting"]
    plugin.dataset = label
    plugin.create_model_component("Linear1D", "L")
    plugin.equation = "L"
    model, _ = plugin.calculate_fit(add_data=True)
    return [float(value) for value in model.parameters]


def _lines(app: Any, label: str, subset: str) -> dict[str, list[str]]:
    plugin = app.plugins["Line Analysis"]
    plugin.dataset = label
    plugin.spectral_subset = subset
    return {row["function"]: [row["result"], row["uncertainty"]] for row in plugin.get_results()}


def _subset(app: Any) -> list[str]:
    app.plugins["Subset Tools"].import_region(REGION)
    return [str(region) for region in app.app.get_subsets()["Subset 1"]]


def _smooth(app: Any, label: str) -> dict[str, Any]:
    plugin = app.plugins["Gaussian Smooth"]
    plugin.dataset = label
    plugin.stddev = 3
    return _values(plugin.smooth(add_data=True))


def _export(app: Any) -> dict[str, Any]:
    """Export the smoothed spectrum, and return the shapes of the columns in the file."""
    plugin = app.plugins["Export"]
    (smoothed,) = [name for name in plugin.dataset.choices if "smooth" in name]
    plugin.dataset = smoothed
    with tempfile.TemporaryDirectory() as folder:
        plugin.filename = str(Path(folder) / "smoothed.fits")
        written = plugin.export(overwrite=True)
        table = fits.getdata(written, 1)
        return {name: list(table[name].shape) for name in table.names}


def _convert(app: Any) -> list[Any]:
    plugin = app.plugins["Unit Conversion"]
    state = app.app.get_viewer("spectrum-viewer").state
    plugin.spectral_unit = "Angstrom"
    found = [state.x_display_unit, round(float(state.x_min)), round(float(state.x_max))]
    plugin.spectral_unit = "micron" if "micron" in plugin.spectral_unit.choices else "um"
    return found


def main(arguments: list[str]) -> None:
    """Print the results for files, and whether glue_lrs has been imported, as JSON."""
    if arguments[0] == "--without":
        arguments = arguments[1:]
        entries = [
            entry
            for entry in glue._plugin_helpers.iter_plugin_entry_points()
            if not entry.module.startswith("glue_lrs")
        ]
        glue._plugin_helpers.iter_plugin_entry_points = lambda: iter(entries)
    found: dict[str, Any] = {}
    for path in arguments:
        results = specviz2d_results if "s2d" in Path(path).name else specviz_results
        found[Path(path).name] = _attempt(lambda path=path, results=results: results(path)[1])
    found["imported"] = "glue_lrs" in sys.modules
    # jdaviz prints as well
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
