"""Colours, labels and axes that all figures share."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, WriteError, nearest
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

__all__ = [
    "APERTURE_STYLE",
    "BACKGROUND_STYLE",
    "BAD_PIXEL_STYLE",
    "BLACK",
    "BLUE",
    "BOX_STYLE",
    "COLUMN_LABELS",
    "GREEN",
    "NO_DATA",
    "ORANGE",
    "PURPLE",
    "SERIES",
    "VERMILION",
    "axes_or_new",
    "centre_edges",
    "column_values",
    "figure_or_new",
    "legend_above",
    "one_series",
    "outside_legend",
    "plain_text",
    "quiet_matplotlib",
    "row_wavelength",
    "save",
    "time_series",
    "unit_label",
    "wavelength_axis",
]

# Okabe and Ito's palette: told apart with every kind of colour vision.
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"

BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

#: Colours of spectra that are drawn over each other; black and a dash tell the truth.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#666666")

APERTURE_STYLE, BACKGROUND_STYLE, BOX_STYLE, BAD_PIXEL_STYLE = VERMILION, BLUE, GREEN, PURPLE

NO_DATA = "#E8E8E8"


def legend_above(ax: Axes, handles: list[Any]) -> None:
    """Explain lines and marks above a picture that has no room for it."""
    ax.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False,
        fontsize="small", handlelength=1.6, columnspacing=1.0, borderaxespad=0.2,
    )  # fmt: skip


def save(
    figure: Figure, path: str | PathLike[str], *, overwrite: bool = False, dpi: float = 120
) -> None:
    """Write a picture whole or not at all.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        The figure.
    path : str or path-like
        The file; its ending says which kind: PNG, PDF, SVG and others.
    overwrite : bool
        Whether an existing file may be replaced.
    dpi : float
        Dots an inch, for pictures that are made of dots.

    Raises
    ------
    WriteError
        If the file exists, its ending is not that of a picture, or it cannot be written.
    """
    from glue_lrs.io.files import atomic_write

    known = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in known:
        raise WriteError(
            f"{path}: ends in {Path(path).suffix!r}, expected a picture: {', '.join(sorted(known))}"
        )
    with atomic_write(path, overwrite) as temporary:
        figure.savefig(temporary, dpi=dpi)


# --- what the pictures are made of -------------------------------------------------------------

COLUMN_LABELS = {
    "FLUX": "flux",
    "SURF_BRIGHT": "surface brightness",
    "BACKGROUND": "background",
    "NPIXELS": "pixels used",
}


def figure_or_new(figure: Any, size: tuple[float, float]) -> Any:
    if figure is None:
        return Figure(figsize=size, layout="constrained")
    return figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return figure_or_new(None, size).subplots() if ax is None else ax


def plain_text(name: str) -> str:
    """A name as text: no formula between two "$", nothing that a font cannot be asked for."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def quiet_matplotlib(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a nan-function of numpy; where all is NaN, NaN is the answer and not news."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*args, **kwargs)


def row_wavelength(image: SlitImage) -> NDArray[np.float64]:
    """Mean wavelength of each row, shape (row,); NaN where it has none."""
    return np.asarray(
        quiet_matplotlib(np.nanmean, np.asarray(image.wavelength, dtype=float), axis=1)
    )


def wavelength_axis(ax: Axes, image: SlitImage, bottom: int, top: int) -> None:
    """Whole wavelengths beside the rows, as many as there is room for."""
    wave = row_wavelength(image)
    rows = np.flatnonzero(np.isfinite(wave))
    axis = ax.secondary_yaxis("right")
    axis.set_ylabel("wavelength [µm]")
    ticks: dict[str, float] = {}
    if rows.size > 1:
        order = np.argsort(wave[rows], kind="stable")
        sorted_wave, sorted_rows = wave[rows][order], rows[order].astype(float)
        first, last = np.ceil(sorted_wave[0]), np.floor(sorted_wave[-1])
        for value in np.arange(last, first - 1, -1.0):
            row = float(np.interp(value, sorted_wave, sorted_rows))
            room = all(abs(row - other) > 0.035 * (top - bottom) for other in ticks.values())
            if room and bottom <= row <= top:
                ticks[f"{value:g}"] = row
    axis.set_yticks(list(ticks.values()), list(ticks))


def column_values(extraction: Extraction, column: str) -> NDArray[np.float64]:
    name = column.upper()
    if name not in extraction.columns or name == "WAVELENGTH":
        known = [c for c in COLUMNS[1:] if c in extraction.columns]
        raise LRSError(
            f"column is {column!r}{nearest(column, [c.lower() for c in known])}, expected one of "
            f"{', '.join(known)}"
        )
    return np.asarray(extraction.columns[name], dtype=float)


def time_series(
    extraction: Extraction, column: str, integration: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """A column of one integration, its error, and the mask."""
    pick: Any = ...
    if extraction.is_stack:
        number = extraction.columns["FLUX"].shape[0]
        if not 0 <= integration < number:
            raise LRSError(f"integration is {integration}, expected 0 to {number - 1}")
        pick = integration
    values = column_values(extraction, column)[pick]
    error = ERROR_OF.get(column.upper())
    found = column_values(extraction, error)[pick] if error in extraction.columns else None
    return values, found, np.asarray(extraction.mask[pick])


def one_series(
    extraction: Extraction, column: str, integration: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Wavelength, a column, its error, the mask; without an integration a stack's median."""
    if not extraction.is_stack:
        return (extraction.wavelength, *time_series(extraction, column, 0))
    if integration is not None:
        return (extraction.wavelength, *time_series(extraction, column, integration))
    mask = extraction.mask
    values = np.where(mask, np.nan, column_values(extraction, column))
    middle = quiet_matplotlib(np.nanmedian, values, axis=0)
    return extraction.wavelength, middle, None, np.all(mask, axis=0)


def unit_label(unit: Any) -> str:
    if unit is None:
        return ""
    parsed = u.Unit(unit)
    text = parsed.to_string()
    return text.replace(" ", "").replace("um", "µm")


def centre_edges(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins around centres."""
    if wave.size == 1:
        return np.array([wave[0] - 0.01, wave[0] + 0.01])
    middle = (wave[1:] + wave[:-1]) / 2.0
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def outside_legend(ax: Axes, handles: list[Any]) -> None:
    if handles:
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2, frameon=False,
            fontsize="small", columnspacing=1.0,
        )  # fmt: skip
