"""Figure that shows an image together with its extracted spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from glue_lrs._utils.validation import check_type
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.plotting import style
from glue_lrs.plotting.image import checked_rows, plot_cut, plot_image, representative_rows
from glue_lrs.plotting.spectra import plot_extraction
from glue_lrs.plotting.stack import plot_stack
from glue_lrs.plotting.style import Panels
from glue_lrs.spectra.extraction import Extraction

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.plotting.style import AxisLimits, FigureSource


@style.no_figure_on_error
def plot_product(
    image: ImageSource,
    extract: Extract1D | None = None,
    extraction: Extraction | None = None,
    *,
    rows: Sequence[int] | None = None,
    integration: int | None = None,
    column: str = "FLUX",
    stretch: str = "asinh",
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    comparison: tuple[str, ArrayLike, ArrayLike] | None = None,
    note: str | None = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Draw an extraction: the image with the aperture, cuts along the slit, and the spectrum.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to draw, or the path of its file.
    extract : Extract1D, optional
        `Extract1D` operator whose aperture and background regions are drawn.
    extraction : Extraction, optional
        Result of the extraction from `image`, whose spectrum is drawn.
    rows : sequence of int, optional
        Rows to draw as cuts; by default, three rows of the aperture.
    integration : int, optional
        Index of the integration of a stack, counted from 0. If None, the image of the first
        integration is drawn, and `plot_stack` draws the spectra of all integrations.
    column : str
        Name of the column of the spectrum to draw.
    stretch : {"asinh", "linear", "sqrt", "log"}
        Stretch of the grey scale of the image.
    xlim, ylim : (float, float), optional
        Limits of the spectrum, as in `plot_extraction` and `plot_stack`.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the spectrum, of a known spectrum to
        overplot.
    comparison : (str, array_like, array_like), optional
        Label, wavelengths in micron and values, in the unit of the spectrum, of another spectrum to
        overplot. It is not drawn if the spectra of all integrations are.
    note : str, optional
        Text above the spectrum, such as the aperture correction.
    figure : `~matplotlib.figure.Figure` or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title of the figure; by default, file name, product type and EXP_TYPE of the image.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of the panels ``"image"``, ``"cut ROW"`` for each row and, if `extraction` is given,
        those of `plot_extraction` or `plot_stack`. Its attribute ``figure`` is the figure.

    Raises
    ------
    LRSError
        If the integration, the column or a row does not exist, or the aperture has no pixel on the
        image.
    """
    image = SlitImage.from_any(image)
    check_type("extract", extract, Extract1D | None, "an Extract1D or None")
    check_type("extraction", extraction, Extraction | None, "an Extraction or None")
    style.check_limits(xlim, ylim, None if extraction is None else extraction.wavelength)
    all_integrations = extraction is not None and extraction.is_stack and integration is None
    number = 0 if integration is None else integration
    ratios = [1.0, 1.15] if extraction is None else [1.0, 1.05, 2.6 if all_integrations else 1.75]
    made = style.figure_or_new(figure, (4.0 * sum(ratios) - 0.2 * len(ratios), 8.0))
    parts: Any = made.subfigures(1, len(ratios), width_ratios=ratios)
    chosen = representative_rows(image, extract) if rows is None else checked_rows(image, rows)
    panels = Panels(image=parts[0].subplots())
    plot_image(image, extract, integration=number, ax=panels["image"], rows=chosen, stretch=stretch)
    cuts = parts[1].subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    # The cut at the top shows the largest row number, as does the top of the image.
    for ax, row in zip(cuts, sorted(chosen, reverse=True), strict=True):
        plot_cut(image, row, extract, extraction, integration=number, ax=ax, label=ax is cuts[-1])
        panels[f"cut {row}"] = ax
    limits: dict[str, Any] = {"column": column, "xlim": xlim, "ylim": ylim, "figure": parts[-1]}
    if extraction is not None and all_integrations:
        panels |= plot_stack(extraction, **limits)
    elif extraction is not None:
        panels |= plot_extraction(
            extraction, truth=truth, comparison=comparison, integration=number, title=note, **limits
        )
    where = f", integration {number + 1} of {image.data.shape[0]}" if image.is_stack else ""
    text = title or f"{image.label}: {image.kind}, {image.exp_type}"
    made.suptitle(style.plain_text(text + where), fontsize="medium")
    return panels
