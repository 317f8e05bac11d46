"""The best references of a file, from the Calibration Reference Data System (CRDS).

Needs the optional package ``crds``, which keeps what it has fetched in the folder ``CRDS_PATH``.
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

from glue_lrs.errors import LRSError, ProductError
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.files import open_fits

__all__ = ["REFERENCES", "best_references"]

#: The types of reference that an extraction uses.
REFERENCES = ("extract1d", "apcorr", "psf")

#: Header cards that the rules for these types ask for, and what CRDS calls them.
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
#: Those that no rule does without.
_NEEDED = ("INSTRUME", "EXP_TYPE", "DATE-OBS", "TIME-OBS")


def best_references(
    file: str | PathLike[str] | fits.Header | Mapping[str, Any], context: str | None = None
) -> dict[str, str | None]:
    """Find, and fetch where they are not in the cache, the best references of a file.

    Parameters
    ----------
    file : str, path-like, Header or mapping
        A file of MIRI LRS, or its primary header.
    context : str, optional
        CRDS context, such as ``"jwst_1322.pmap"``; by default what CRDS takes: the environment
        variable CRDS_CONTEXT, or the server's choice.

    Returns
    -------
    dict
        Path of ``extract1d``, ``apcorr`` and ``psf``; None where CRDS has none ("N/A").

    Raises
    ------
    ProductError
        If the file is not one of MIRI LRS or lacks a card that CRDS needs.
    LRSError
        If the package ``crds`` is missing, CRDS cannot be reached and its cache does not have what
        is needed, or it has no EXTRACT1D reference for the file.
    """
    parameters = _parameters(file)
    crds = _import_crds()
    return {kind: _find(crds, kind, parameters, context) for kind in REFERENCES}


def _parameters(file: str | PathLike[str] | fits.Header | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(file, str | PathLike):
        label = os.fspath(file)
        with open_fits(file) as hdulist:
            header: Mapping[str, Any] = hdulist[0].header.copy()
    else:
        label, header = "header", file
    missing = [name for name in _NEEDED if header.get(name) in (None, "")]
    if missing:
        raise ProductError(f"{label}: {', '.join(missing)} missing, expected in order to ask CRDS")
    mode = f"{header['INSTRUME']} {header['EXP_TYPE']}"
    if header["INSTRUME"] != "MIRI" or header["EXP_TYPE"] not in (FIXED_SLIT, SLITLESS):
        raise ProductError(f"{label}: is of {mode}, expected MIRI {FIXED_SLIT} or {SLITLESS}")
    return {
        parameter: header[card]
        for card, parameter in _PARAMETERS.items()
        if isinstance(header.get(card), str | int | float)
    }


def _import_crds() -> ModuleType:
    try:
        import crds
    except ImportError:
        raise LRSError(
            "the package crds is not installed, expected for references of CRDS: "
            "pip install 'glue-lrs[crds]'"
        ) from None
    return crds


def _find(
    crds: ModuleType, kind: str, parameters: Mapping[str, Any], context: str | None
) -> str | None:
    # One type at a time: where a context has no rules for one, CRDS would give none at all.
    exceptions = crds.exceptions
    try:
        with _quiet():
            found = crds.getreferences(
                dict(parameters), reftypes=[kind], context=context, observatory="jwst"
            )[kind]
    except exceptions.CrdsLookupError as error:
        if kind != "extract1d":
            return None
        raise LRSError(f"CRDS has no {kind} reference for this file: {_line(error)}") from None
    except AssertionError as error:  # how the client checks its arguments
        raise LRSError(f"CRDS context {context!r}: {_line(error)}") from None
    # SystemExit is what the client ends with where there is neither a server nor a cache.
    except (exceptions.CrdsError, OSError, SystemExit) as error:
        server = os.environ.get("CRDS_SERVER_URL") or "not set"
        cache = os.environ.get("CRDS_PATH") or "not set"
        why = "" if isinstance(error, SystemExit) else f" ({_line(error)})"
        rules = context or os.environ.get("CRDS_CONTEXT") or "the default context"
        raise LRSError(
            f"CRDS gives no {kind} reference{why}: expected a server that can be reached "
            f"(CRDS_SERVER_URL is {server}, usually https://jwst-crds.stsci.edu) or a cache "
            f"(CRDS_PATH is {cache}) that has {rules}"
        ) from None
    if found.upper().startswith("NOT FOUND") or found.upper() == "N/A":
        return None
    if not Path(found).is_file():
        raise LRSError(f"{found}: is not in CRDS's cache and could not be fetched")
    return str(found)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client from printing errors and tracebacks, which are told in an exception."""
    logger = logging.getLogger("CRDS")

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger.addFilter(keep)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.removeFilter(keep)
