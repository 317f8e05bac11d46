"""Layout of x1d and x1dints files: extension name, header cards and time columns."""

from __future__ import annotations

import re

#: Name of the extension that holds a spectrum.
EXTENSION = "EXTRACT1D"

#: FITS formats and units of the columns that an x1dints has in addition to the columns of an x1d.
#: INT_NUM is written before the columns of the x1d, and the others are written after them.
TIME_COLUMNS = {
    "INT_NUM": ("J", None),
    "SEGMENT": ("J", None),
    "MJD-BEG": ("D", "d"),
    "MJD-AVG": ("D", "d"),
    "MJD-END": ("D", "d"),
    "TDB-BEG": ("D", "d"),
    "TDB-MID": ("D", "d"),
    "TDB-END": ("D", "d"),
}

#: Columns of the INT_TIMES extension.
INT_TIMES = (
    "integration_number",
    "int_start_MJD_UTC",
    "int_mid_MJD_UTC",
    "int_end_MJD_UTC",
    "int_start_BJD_TDB",
    "int_mid_BJD_TDB",
    "int_end_BJD_TDB",
)

#: Cards that the pipeline writes to the EXTRACT1D or COMBINE1D extension, and their comments.
CARD_COMMENTS = {
    "SLTNAME": "Slit name",
    "SLITID": "Slitlet ID",
    "SOURCEID": "Source ID number",
    "SRCNAME": "Source name",
    "SRCALIAS": "Source alias",
    "STLARITY": "Source stellarity",
    "SRCTYPE": "Source type used for calibration",
    "TA_XPOS": "Source x-position in TA verification image",
    "TA_YPOS": "Source y-position in TA verification image",
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
    "WAVECOR": "Wavelength corrected (T/F)",
    "PTHLOSS": "Type of pathloss correction applied",
    "BARSHDW": "Barshadow corrected (T/F)",
    "SHUTSTA": "All (open and close) shutters in a slit",
    "MSAQUAD": "MSA quadrant for slit",
    "SLTXSCL": "Scale open to full MSA slit coordinates (X dir)",
    "SLTYSCL": "Scale open to full MSA slit coordinates (Y dir)",
    "S_REGION": "Spatial footprint of the observation",
    "PA_APER": "[deg] Position angle of aperture used",
}

#: Pattern of the file names in the Calibration Reference Data System (CRDS).
CRDS_NAME = re.compile(r"jwst_[a-z0-9]+_[a-z0-9-]+_\d{4}\.[a-z]+")

#: Types of reference files in the provenance. The values are the header card for the name of the
#: file, and the comment of this card.
REFERENCE_CARDS = {
    "extract1d": ("R_EXTR1D", "1-D extraction parameters reference file name"),
    "apcorr": ("R_APCORR", "Aperture correction reference file name"),
}
