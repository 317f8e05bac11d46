"""Layout of x1d and x1dints files: extension, cards and time columns."""

from __future__ import annotations

import re

__all__ = [
    "CARD_COMMENTS",
    "CRDS_NAME",
    "EXTENSION",
    "INT_TIMES",
    "REFERENCE_CARDS",
    "TIMES_AFTER",
    "TIMES_BEFORE",
    "TIME_COLUMNS",
]

#: The extension that holds a spectrum.
EXTENSION = "EXTRACT1D"

#: Columns of an x1dints before and after those of an x1d: name -> (format, unit).
TIMES_BEFORE = {"INT_NUM": ("J", None)}

TIMES_AFTER = {
    "SEGMENT": ("J", None),
    "MJD-BEG": ("D", "d"),
    "MJD-AVG": ("D", "d"),
    "MJD-END": ("D", "d"),
    "TDB-BEG": ("D", "d"),
    "TDB-MID": ("D", "d"),
    "TDB-END": ("D", "d"),
}

TIME_COLUMNS = (*TIMES_BEFORE, *TIMES_AFTER)

#: Columns of INT_TIMES.
INT_TIMES = {
    "integration_number": "J",
    "int_start_MJD_UTC": "D",
    "int_mid_MJD_UTC": "D",
    "int_end_MJD_UTC": "D",
    "int_start_BJD_TDB": "D",
    "int_mid_BJD_TDB": "D",
    "int_end_BJD_TDB": "D",
}

#: Cards that the pipeline writes to the EXTRACT1D extension, with their comments.
CARD_COMMENTS = {
    "SLTNAME": "Slit name",
    "SLITID": "Slitlet ID",
    "SOURCEID": "Source ID number",
    "SRCNAME": "Source name",
    "SRCALIAS": "Source alias",
    "STLARITY": "Source stellarity",
    "SRCTYPE": "Source type used for calibration",
    "SRCXPOS": "Source position in slit (x-axis)",
    "SRCYPOS": "Source position in slit (y-axis)",
    "SRCRA": "Right Ascension of the source",
    "SRCDEC": "Declination of the source",
    "EXTR_X": "X center of extraction region",
    "EXTR_Y": "Y center of extraction region",
    "EXTRXSTR": "X axis start of extraction region",
    "EXTRXSTP": "X axis end of extraction region",
    "EXTRYSTR": "Y axis start of extraction region",
    "EXTRYSTP": "Y axis end of extraction region",
    "SLIT_RA": "[deg] Right Ascension at middle of slit",
    "SLIT_DEC": "[deg] Declination at middle of slit",
    "SPORDER": "Spectral order number",
    "DISPAXIS": "Dispersion direction",
    "DETECTOR": "Name of detector used to acquire the data",
    "INT_NUM": "Integration number",
    "MJD-BEG": "[d] integration start time in MJD",
    "MJD-AVG": "[d] integration mid-point in MJD",
    "MJD-END": "[d] integration end time in MJD",
    "TDB-BEG": "TDB at start of integration [MJD]",
    "TDB-MID": "TDB at middle of integration [MJD]",
    "TDB-END": "TDB at end of integration [MJD]",
    "PTHLOSS": "Type of pathloss correction applied",
    "S_REGION": "Spatial footprint of the observation",
    "PA_APER": "[deg] Position angle of aperture used",
}

#: File names of the Calibration Reference Data System (CRDS).
CRDS_NAME = re.compile(r"jwst_[a-z0-9]+_[a-z0-9-]+_\d{4}\.[a-z]+")

#: Cards with the names of reference files: key of the provenance -> card, comment.
REFERENCE_CARDS = {
    "extract1d": ("R_EXTR1D", "1-D extraction parameters reference file name"),
    "apcorr": ("R_APCORR", "Aperture correction reference file name"),
}
