"""Reader and writer of c1d files, which hold combined spectra in the layout of the pipeline."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from glue_lrs.combination.combination import COLUMNS, Combination, CombineInput
from glue_lrs.errors import LRSWarning, ProductError, listed, quoted, warn
from glue_lrs.io import tables
from glue_lrs.io.files import Source, asdf_hdu, atomic_write, opened
from glue_lrs.io.headers import check_exp_type, product_header, set_card, without_structure
from glue_lrs.io.plausibility import check_spectrum
from glue_lrs.io.provenance import PROVENANCE_KEY, stored_provenance
from glue_lrs.spectra.columns import QUALITY, column_units
from glue_lrs.spectra.provenance import CombinationProvenance, json_tree

#: Name of the extension with the combined spectrum.
EXTENSION = "COMBINE1D"
#: Name of the extension with the mask of clipped values, which only this package writes.
CLIPPED = "CLIPPED"
#: Cards that the pipeline writes to the COMBINE1D extension.
_CARDS = ("SPORDER", "SOURCEID", "SRCTYPE", "SRCRA", "SRCDEC", "DISPAXIS")


# --- reading --------------------------------------------------------------------------------------


def read_c1d(source: Source) -> Combination:
    """Read a combined spectrum from a c1d file.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        A c1d file of MIRI LRS, written by the pipeline or this package.

    Returns
    -------
    Combination
        The combined spectrum. For files written by the pipeline, which do not list the inputs,
        ``inputs`` is empty, and ``clipped`` and ``provenance`` are None.

    Raises
    ------
    ProductError
        If the file is not a c1d, is damaged, or holds several spectra.
    """
    with opened(source) as (hdulist, label):
        header = hdulist[0].header
        check_exp_type(header)
        (hdu,) = tables.named(hdulist, EXTENSION, "a c1d with one extension COMBINE1D", single=True)
        names = {name.upper(): name for name in hdu.columns.names}
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise ProductError(
                f"the table {EXTENSION} has no column {missing[0]}, found "
                f"{listed(hdu.columns.names) or 'none'}"
            )
        stated = {name: hdu.columns[names[name]].unit for name in COLUMNS}
        units = _known(stated, label) | _units(stated["FLUX"])
        known = [name for name in (*COLUMNS, QUALITY) if name in names]
        columns = tables.read_columns(hdu, {name: names[name] for name in known}, units)
        shape = columns["FLUX"].shape
        if len(shape) != 1 or shape[0] == 0:
            raise ProductError(f"FLUX has the shape {shape}, expected that of a spectrum with rows")
        clipped = np.array(hdulist[CLIPPED].data) != 0 if CLIPPED in hdulist else None
        if clipped is not None and clipped.shape[1:] != shape:
            raise ProductError(
                f"{CLIPPED} has the shape {clipped.shape}, expected (input, {shape[0]})"
            )
        stored = stored_provenance(hdulist, label, combined=True)
        provenance = None if stored is None else CombinationProvenance(stored)
        for note in check_spectrum(columns):
            warn(note.about(label))
        return Combination(
            columns=columns,
            units=units,
            clipped=clipped,
            header=without_structure(header),
            keywords={name: hdu.header[name] for name in _CARDS if name in hdu.header},
            inputs_source=() if provenance is None else partial(_inputs, provenance),
            provenance=provenance,
            filename=label,
        )


def _known(stated: dict[str, str | None], label: str) -> dict[str, str]:
    """Return the units that astropy knows, after warnings about others, such as that of WEIGHT."""
    units = {name: unit for name, unit in stated.items() if unit}
    for name, unit in tuple(units.items()):
        if isinstance(u.Unit(unit, parse_strict="silent"), u.UnrecognizedUnit):
            del units[name]
            text = f"{name} is in {quoted(unit)}, which is no unit (TUNIT): it is read without one"
            warn(LRSWarning(text, subject=label))
    return units


def _units(flux: str | None) -> dict[str, str]:
    """Return the units of the columns other than WEIGHT, for the unit of the flux in the file."""
    units = column_units("DN" not in str(flux))
    names = {"WAVELENGTH": "WAVELENGTH", "FLUX": "FLUX", "ERROR": "FLUX_ERROR"}
    names |= {"SURF_BRIGHT": "SURF_BRIGHT", "SB_ERROR": "SB_ERROR"}
    return {name: units[column] for name, column in names.items()}


def _inputs(provenance: CombinationProvenance) -> list[CombineInput]:
    return [CombineInput.from_dict(record) for record in provenance["inputs"] or ()]


# --- writing --------------------------------------------------------------------------------------


def write_c1d(
    combination: Combination, path: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Write a combined spectrum in the layout of the pipeline.

    Parameters
    ----------
    combination : Combination
        Combined spectrum to write.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    In addition to the content of the pipeline's files, the ASDF extension contains the provenance.
    If values were clipped, an extension CLIPPED of shape (input, row) has the value 1 where the
    value of an input was clipped.
    """
    with atomic_write(path, overwrite) as temporary:
        header = product_header(combination.header, Path(path).name, "MultiCombinedSpecModel")
        set_card(header, "S_EXTR1D", "COMPLETE", "1-D Spectral Extraction")
        set_card(header, "S_COMB1D", "COMPLETE", "1-D Spectral Combination")
        columns = [
            tables.value_column(name, combination.columns[name], combination.units.get(name))
            for name in combination.columns
        ]
        table = tables.new_table(columns, EXTENSION, combination.keywords)
        hdulist = fits.HDUList([fits.PrimaryHDU(header=header), table])
        if combination.clipped is not None:
            hdulist.append(fits.ImageHDU(combination.clipped.astype(np.uint8), name=CLIPPED))
        hdulist.append(asdf_hdu(_tree(combination)))
        hdulist.writeto(temporary, output_verify="silentfix")


def _tree(combination: Combination) -> dict[str, Any]:
    """Make the ASDF tree with the WCS, as in the pipeline's files, and with the provenance."""
    header = combination.header
    ra, dec = (float(header.get(card) or 0.0) for card in ("TARG_RA", "TARG_DEC"))
    tree: dict[str, Any] = {"meta": {"wcs": tables.spectral_wcs(ra, dec, combination.wavelength)}}
    if combination.provenance is not None:
        tree[PROVENANCE_KEY] = json_tree(combination.provenance)
    return tree
