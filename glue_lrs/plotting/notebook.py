"""HTML of images and extractions, which notebooks show instead of the text.

`glue_lrs._utils.display.html` imports this module when a notebook asks for the HTML of an object.
"""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure

from glue_lrs._utils.display import register_renderer
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.plotting.image import plot_image
from glue_lrs.plotting.spectra import plot_extraction, series
from glue_lrs.plotting.stack import plot_stack
from glue_lrs.spectra.extraction import Extraction

#: Resolution of the pictures in dots per inch.
_DPI = 60

#: Columns in the table of an extraction, and the number of its lines.
_COLUMNS = ("FLUX", "FLUX_ERROR", "BACKGROUND", "NPIXELS", "DQ")
_LINES = 16


def image_html(image: SlitImage) -> str:
    """Return the text of an image, and a thumbnail with the default aperture of its EXP_TYPE."""
    operator = Extract1D.from_reference(None, image.exp_type)
    caption = f"default aperture of {image.exp_type}"
    figure = Figure(figsize=(4.0, 6.0), layout="constrained")
    ax = figure.subplots()
    try:
        plot_image(image, operator, ax=ax)
    except LRSError as error:  # the aperture has no pixel on this image
        caption = f"{caption}: {error.text}"
        figure.clear()
        plot_image(image, ax=figure.subplots())
    if image.is_stack:
        caption = f"integration 1 of {image.data.shape[0]}; {caption}"
    return _text(image) + _picture(figure, caption)


def extraction_html(extraction: Extraction) -> str:
    """Return the text of an extraction, a plot, and a table of the most important columns."""
    if extraction.is_stack:
        panels = plot_stack(extraction, figure=Figure)
    else:
        panels = plot_extraction(extraction, figure=Figure)
    return _text(extraction) + _beside(_picture(panels.figure), _table(extraction))


def _text(value: object) -> str:
    return f"<pre>{escape(repr(value))}</pre>"


def _picture(figure: Figure, caption: str | None = None) -> str:
    """Return a figure as an image of PNG data, with a caption."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    source = b64encode(content.getvalue()).decode("ascii")
    text = "" if caption is None else f"<figcaption>{escape(caption)}</figcaption>"
    return (
        f'<figure style="margin:0"><img alt="{escape(caption or "spectrum")}" '
        f'src="data:image/png;base64,{source}">{text}</figure>'
    )


def _table(extraction: Extraction) -> str:
    """Return the first and the last rows of a spectrum, for a stack those of the median."""
    names = [name for name in _COLUMNS if name in extraction.columns]
    if extraction.is_stack:
        names = [name for name in names if name not in ("FLUX_ERROR", "DQ")]
    columns: dict[str, Any] = {"WAVELENGTH": extraction.wavelength} | {
        name: extraction.columns[name] if name == "DQ" else series(extraction, name, None).values
        for name in names
    }
    table = Table(columns)
    for name in table.colnames:
        table[name].unit = extraction.units.get(name)
        if np.issubdtype(table[name].dtype, np.floating):
            table[name].format = ".5g"
    lines = table.pformat(
        html=True, max_lines=_LINES, max_width=-1, show_unit=True, tableclass="dataframe"
    )
    above = f"<div>median of {len(extraction.mask)} integrations</div>" * extraction.is_stack
    return f"<div>{above}{chr(10).join(lines)}</div>"


def _beside(*parts: str) -> str:
    """Return parts beside each other, as far as there is room."""
    style = "display:flex; flex-wrap:wrap; gap:1em; align-items:flex-start"
    return f'<div style="{style}">{"".join(parts)}</div>'


register_renderer(SlitImage, image_html)
register_renderer(Extraction, extraction_html)
