"""Tables of spectra that can be written in the formats of astropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, QTable
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.spectra.columns import FLAGS
from glue_lrs.spectra.provenance import ProvenanceRecord, json_tree


def column_table(
    columns: Mapping[str, NDArray[Any] | Column],
    units: Mapping[str, str],
    header: fits.Header,
    provenance: ProvenanceRecord | None,
) -> QTable:
    """Make a table of columns with units, as described in `Extraction.table`.

    Parameters
    ----------
    columns : dict of ndarray or `~astropy.table.Column`
        Columns, which are copied, in the order of the table.
    units : dict of str
        Unit of each array that has a unit.
    header : `~astropy.io.fits.Header`
        Header whose cards are stored in the ``meta`` of the table.
    provenance : ProvenanceRecord, optional
        Record that is stored in the ``meta`` of the table.
    """
    table = QTable()
    for name, values in columns.items():
        if isinstance(values, Column):
            table[name] = values
        elif name in units:
            table[name] = u.Quantity(values, units[name])
        else:
            # VOTable has no unsigned integers of 32 bits.
            table[name] = np.array(values, dtype=np.int64 if name in FLAGS else None)
    table.meta = {
        "header": _cards(header),
        "glue_lrs": None if provenance is None else json_tree(provenance),
    }
    return table


def _cards(header: fits.Header) -> dict[str, Any]:
    """Return the values of all cards as a dict, in which COMMENT and HISTORY are lists of lines."""
    header = LazyHeader.view(header)
    cards: dict[str, Any] = {}
    # The header is not asked for a keyword, because astropy expands * and ? in it.
    for name, value in header.items():
        if not name or name in cards:
            continue
        if name in ("COMMENT", "HISTORY"):
            value = [str(line) for line in header[name]]
        elif isinstance(value, np.generic):
            value = value.item()
        elif not isinstance(value, bool | int | float | str | None):
            value = str(value)
        cards[name] = value
    return cards
