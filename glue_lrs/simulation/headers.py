"""Headers and integration times of simulated products, with the same cards as real products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.table import Table

from glue_lrs.simulation.optics import MJYSR_PER_DN, PIXEL_AREA, PIXEL_SCALE, SLIT

if TYPE_CHECKING:
    from glue_lrs.simulation.geometry import Pointing
    from glue_lrs.simulation.products import Product
    from glue_lrs.simulation.scene import Scene

#: Start of the simulated exposures as a Modified Julian Date.
_EXPOSURE_START = 60994.6

_SECONDS_PER_DAY = 86400.0


def primary_header(scene: Scene, product: Product, dithered: tuple[float, float]) -> fits.Header:
    """Make the primary header of a product.

    `dithered` is the right ascension and declination in degrees for DITH_RA and DITH_DEC.
    """
    slit = product.geometry.dispersion is SLIT
    exposure, cards = scene.exposure_time, product.cards
    integrations = 1 if product.factors is None else product.factors.size
    # The start time depends on the seed, so that products with different seeds are treated as
    # different exposures when they are combined.
    begin = _EXPOSURE_START + 1e-4 * scene.seed
    duration = exposure * integrations
    primary: dict[str, str | float] = {
        "DATE": "2025-11-16T00:00:00.000",
        "ORIGIN": "glue_lrs",
        "CAL_VER": "3.0.0",
        "CAL_VCS": "RELEASE",
        "DATAMODL": product.datamodel,
        "TELESCOP": "JWST",
        "DATE-OBS": "2025-11-15",
        "TIME-OBS": "14:24:00.000",
        "DATE-BEG": "2025-11-15T14:24:00.000",
        "OBS_ID": "V00001001001P0000000001101",
        "VISIT_ID": "00001001001",
        "PROGRAM": "00001",
        "OBSERVTN": "001",
        "VISIT": "001",
        "VISITGRP": "01",
        "SEQ_ID": "1",
        "ACT_ID": "01",
        "EXPOSURE": f"{cards['PATT_NUM']:05d}",
        "TSOVISIT": False,
        "TARGPROP": "SIMULATED",
        "TARGNAME": "SIMULATED",
        "TARG_RA": scene.ra,
        "TARG_DEC": scene.dec,
        "SRCTYAPT": scene.source_type,
        "INSTRUME": "MIRI",
        "DETECTOR": "MIRIMAGE",
        "FILTER": "P750L",
        "EXP_TYPE": product.exp_type,
        "EXPSTART": begin,
        "EXPMID": begin + duration / 2.0 / _SECONDS_PER_DAY,
        "EXPEND": begin + duration / _SECONDS_PER_DAY,
        "READPATT": "FASTR1",
        "NINTS": 1,
        "NGROUPS": 119,
        "EFFINTTM": exposure,
        "EFFEXPTM": duration,
        "TMEASURE": duration,
        "DURATION": duration,
        "SUBARRAY": "FULL" if slit else "SLITLESSPRISM",
        "SUBSTRT1": 1,
        "SUBSTRT2": 1 if slit else 529,
        "SUBSIZE1": 1032 if slit else 72,
        "SUBSIZE2": 1024 if slit else 416,
        "FASTAXIS": 1,
        "SLOWAXIS": 2,
        "DITH_RA": dithered[0],
        "DITH_DEC": dithered[1],
        "APERNAME": "MIRIM_SLIT" if slit else "MIRIM_SLITLESSPRISM",
        "S_WCS": "COMPLETE",
        "S_SRCTYP": "COMPLETE",
        "S_FLAT": "COMPLETE",
        "S_PHOTOM": "COMPLETE" if product.calibrated else "SKIPPED",
    }
    if product.kind == "s2d":
        primary |= {"RESWHT": "ivm", "PIXFRAC": 1.0, "PXSCLRT": 1.0}
    return fits.Header((primary | cards).items())


def science_header(
    scene: Scene, product: Product, pointing: Pointing, exposure_time: float
) -> fits.Header:
    """Make the header of the SCI extension.

    `exposure_time` is the total exposure time of the product in seconds.
    """
    geometry = product.geometry
    corners = pointing.footprint(
        *((edge - geometry.column) * PIXEL_SCALE for edge in geometry.box[0])
    )
    polygon = " ".join(f"{ra:.9f} {dec:.9f}" for ra, dec in zip(*corners, strict=True))
    science: dict[str, str | float] = {
        "SRCTYPE": scene.source_type,
        "XPOSURE": exposure_time,
        "TELAPSE": exposure_time,
        "VA_SCALE": 1.0,
        "BUNIT": "MJy/sr" if product.calibrated else "DN/s",
    }
    if product.calibrated:
        science |= {
            "PHOTMJSR": MJYSR_PER_DN,
            "PHOTUJA2": 325.5755920410156,
            "PIXAR_SR": PIXEL_AREA,
            "PIXAR_A2": 0.012170609965075093,
        }
    science |= {
        "RADESYS": "ICRS",
        "PA_V3": scene.roll,
        "PA_APER": (scene.roll + pointing.yangle) % 360.0,
        "S_REGION": f"POLYGON ICRS  {polygon}",
        "DISPAXIS": 2,
        "V2_REF": pointing.v2,
        "V3_REF": pointing.v3,
        "VPARITY": -1,
        "V3I_YANG": pointing.yangle,
        "RA_REF": pointing.ra,
        "DEC_REF": pointing.dec,
        "ROLL_REF": scene.roll,
        "SPECSYS": "BARYCENT",
    }
    if product.kind != "s2d" and product.datamodel == "SlitModel":
        row, column = geometry.start
        science |= {
            "SLTSTRT1": column,
            "SLTSIZE1": geometry.shape[1],
            "SLTSTRT2": row,
            "SLTSIZE2": geometry.shape[0],
        }
    return fits.Header(science.items())


def integration_times(first: int, number: int, seconds: float) -> Table:
    """Make the INT_TIMES table of a stack of integrations.

    Parameters
    ----------
    first : int
        Number of the first integration, counted from 1.
    number : int
        Number of integrations.
    seconds : float
        Duration of each integration in seconds.
    """
    index = np.arange(first, first + number, dtype=np.int32)
    start = _EXPOSURE_START + (index - 1) * seconds / _SECONDS_PER_DAY
    table = Table()
    table["integration_number"] = index
    # TDB - UTC is 69.184 s. The light travel time to the barycentre is about 4 minutes.
    for scale, offset in (("MJD_UTC", 0.0), ("BJD_TDB", (69.184 + 241.0) / _SECONDS_PER_DAY)):
        for name, fraction in (("start", 0.0), ("mid", 0.5), ("end", 1.0)):
            table[f"int_{name}_{scale}"] = start + fraction * seconds / _SECONDS_PER_DAY + offset
    return table
