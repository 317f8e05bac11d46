"""Best reference files for an observation, from the Calibration Reference Data System (CRDS).

The optional package ``crds`` is required. It caches reference files in the folder ``CRDS_PATH``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from astropy.io import fits

from glue_lrs.errors import LRSError, ProductError, quoted
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.files import one_line, opened

#: Types of reference files that an extraction uses.
REFERENCES = ("extract1d", "apcorr", "psf")

#: Header cards that CRDS needs to select reference files, and the names of these cards in CRDS.
_PARAMETERS = {
    "TELESCOP": "META.TELESCOPE",
    "INSTRUME": "META.INSTRUMENT.NAME",
    "DETECTOR": "META.INSTRUMENT.DETECTOR",
    "FILTER": "META.INSTRUMENT.FILTER",
    "CHANNEL": "META.INSTRUMENT.CHANNEL",
    "BAND": "META.INSTRUMENT.BAND",
    "EXP_TYPE": "META.EXPOSURE.TYPE",
    "READPATT": "META.EXPOSURE.READPATT",
    "SUBARRAY": "META.SUBARRAY.NAME",
    "DATE-OBS": "META.OBSERVATION.DATE",
    "TIME-OBS": "META.OBSERVATION.TIME",
}
#: Header cards without which CRDS cannot select reference files.
_REQUIRED = ("INSTRUME", "EXP_TYPE", "DATE-OBS", "TIME-OBS")


def best_references(
    file: str | PathLike[str] | fits.Header | Mapping[str, Any], context: str | None = None
) -> dict[str, str | None]:
    """Find the best reference files for a science file, and download those not in the cache.

    Parameters
    ----------
    file : str, path-like, Header or mapping
        Path or primary header of a MIRI LRS file.
    context : str, optional
        CRDS context, such as ``"jwst_1322.pmap"``. The default is the value of the environment
        variable CRDS_CONTEXT, or else the default context of the server.

    Returns
    -------
    dict
        Paths of the reference files, with the types ``extract1d``, ``apcorr`` and ``psf`` as keys.
        A path is None if CRDS has no reference file of this type for the science file.

    Raises
    ------
    ProductError
        If the file is not a MIRI LRS file, or lacks a header card that CRDS requires.
    LRSError
        If the package ``crds`` is not installed, if the reference files are not in the cache and
        the server cannot be reached, or if CRDS has no EXTRACT1D reference file for the file.
    """
    parameters = _parameters(file)
    try:
        import crds  # noqa: PLC0415 - optional
    except ImportError:
        raise LRSError(
            "the package crds is not installed, but is required for reference files from CRDS: "
            "pip install crds"
        ) from None
    return {kind: _find(crds, kind, parameters, context) for kind in REFERENCES}


def _parameters(file: str | PathLike[str] | fits.Header | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(file, str | PathLike):
        with opened(file) as (hdulist, label):
            header: Mapping[str, Any] = hdulist[0].header.copy()
    else:
        label, header = "header", file
    missing = [name for name in _REQUIRED if header.get(name) in (None, "")]
    if missing:
        raise ProductError(
            f"{', '.join(missing)} missing, expected because CRDS requires them", subject=label
        )
    mode = f"{header['INSTRUME']} {header['EXP_TYPE']}"
    if header["INSTRUME"] != "MIRI" or header["EXP_TYPE"] not in (FIXED_SLIT, SLITLESS):
        raise ProductError(f"is of {mode}, expected MIRI {FIXED_SLIT} or {SLITLESS}", subject=label)
    return {
        parameter: header[card]
        for card, parameter in _PARAMETERS.items()
        if isinstance(header.get(card), str | int | float)
    }


def _find(
    crds: ModuleType, kind: str, parameters: Mapping[str, Any], context: str | None
) -> str | None:
    # Each type is requested separately, because if the context has no rules for a type, CRDS does
    # not return files for the other types either.
    exceptions = crds.exceptions
    try:
        with _quiet():
            found = crds.getreferences(
                dict(parameters), reftypes=[kind], context=context, observatory="jwst"
            )[kind]
    except exceptions.CrdsLookupError as error:
        if kind != "extract1d":
            return None
        raise LRSError(f"CRDS has no {kind} reference for this file: {one_line(error)}") from None
    except AssertionError as error:  # raised by argument checks in the client
        raise LRSError(f"CRDS context {quoted(context)}: {one_line(error)}") from None
    # The client raises SystemExit if there is neither a server nor a cache.
    except (exceptions.CrdsError, OSError, SystemExit) as error:
        server = os.environ.get("CRDS_SERVER_URL") or "not set"
        cache = os.environ.get("CRDS_PATH") or "not set"
        reason = "" if isinstance(error, SystemExit) else f" ({one_line(error)})"
        rules = context or os.environ.get("CRDS_CONTEXT") or "the default context"
        raise LRSError(
            f"CRDS gives no {kind} reference{reason}: expected a server that can be reached "
            f"(CRDS_SERVER_URL is {server}, usually https://jwst-crds.stsci.edu) or a cache "
            f"(CRDS_PATH is {cache}) that has {rules}"
        ) from None
    if found.upper().startswith("NOT FOUND") or found.upper() == "N/A":
        return None
    if not Path(found).is_file():
        raise LRSError("is not in CRDS's cache and could not be fetched", subject=found)
    return str(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the errors and tracebacks that the CRDS client prints."""
    logger = logging.getLogger("CRDS")

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger.addFilter(keep)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.removeFilter(keep)
