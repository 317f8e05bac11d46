"""Text about a region: its edges, its pixels and its width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_lrs.viewers.live.regions import DIGITS

if TYPE_CHECKING:
    from glue_lrs.viewers.live.regions import Region


def region_lines(region: Region, row: float, wavelength: float) -> list[str]:
    """Return lines of text with the limits of a region in one row.

    Parameters
    ----------
    region : Region
        Region whose limits are written.
    row, wavelength : float
        Row for which the limits are written, and its wavelength in micron.
    """
    lower, upper = (float(edge) for edge in region.at(row, wavelength))
    edges, pixels = edges_text(lower, upper)
    lines = [edges, f"({pixels})", f"width {_plain_number(upper - lower)}"]
    if not region.straight:
        lines.insert(0, f"at row {row:.0f}, {wavelength:.2f} µm")
    return lines


def edges_text(lower: float, upper: float) -> tuple[str, str]:
    """Format edges as positions and as inclusive pixel numbers, which differ by half a pixel.

    Parameters
    ----------
    lower, upper : float
        Positions of the edges, where pixel i reaches from i - 0.5 to i + 0.5.

    Examples
    --------
    >>> edges_text(26.5, 34.5)
    ('edges 26.50 .. 34.50', 'pixels 27 to 34')
    """
    first, last = _plain_number(lower + 0.5), _plain_number(upper - 0.5)
    # "z" replaces -0 by 0
    return f"edges {lower:z.{DIGITS}f} .. {upper:z.{DIGITS}f}", f"pixels {first} to {last}"


def _plain_number(value: float) -> str:
    """Format a number with at most two decimals, without trailing zeros."""
    return f"{value:z.{DIGITS}f}".rstrip("0").rstrip(".")
