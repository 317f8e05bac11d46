"""Figure of a live extraction: image, slit profiles and spectrum with its comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from glue_lrs.plotting.product import plot_product
from glue_lrs.viewers.live.comparison import plotted_comparison
from glue_lrs.viewers.live.correction import correction_text

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


def product_figure(live: LiveExtraction, extraction: Extraction) -> Figure:
    """Draw the shown image with the committed operator, and its spectrum.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction with the image, the operator and the comparison.
    extraction : Extraction
        Extraction of the shown image with the committed operator.
    """
    title, number = live.image.label, live.integration
    if live.image.is_stack:
        title += ", median of all" if number is None else f", integration {number + 1}"
    note = correction_text(live.extract, live.shown, extraction)
    note = note.replace("no correction", "no aperture correction", 1)
    note = note.replace("flux ×", "aperture correction ×", 1)
    if live.extract.noise != "propagated":
        note += f"; {live.extract.noise} errors"
    return plot_product(
        live.shown,
        live.extract,
        extraction,
        comparison=plotted_comparison(live.comparison, live.comparison_label, extraction),
        note=note,
        figure=Figure,
        title=title,
    ).figure
