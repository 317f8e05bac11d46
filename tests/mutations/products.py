"""Small valid files of each kind, from which the mutations start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from glue.core import Data, DataCollection
from glue.core.application_base import Application

from glue_lrs.combination.combine import combine
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.io.psf import write_psf
from glue_lrs.io.text import export_spectrum
from glue_lrs.profiles import GaussianProfile, PSFProfile
from glue_lrs.viewers.datasets.loaders import open_image
from glue_lrs.viewers.plugin import register
from tests.helpers.images import correction, slit, stack

#: Cards that identify a product of MIRI LRS.
_CARDS = {"TELESCOP": "JWST", "INSTRUME": "MIRI", "FILTER": "P750L", "TARGNAME": "HD 1"}
_CARDS |= {"EFFEXPTM": 100.0, "EFFINTTM": 10.0}  # type: ignore[dict-item]
#: Kinds of files that are text rather than FITS files: JSON documents, and a spectrum in CSV.
DOCUMENTS = ("extract1d", "session", "text")
REFERENCE = {
    "reftype": "EXTRACT1D",
    "instrument": "MIRI",
    "apertures": [
        {
            "id": FIXED_SLIT,
            "dispaxis": 2,
            "xstart": 9,
            "xstop": 16,
            "bkg_coeff": [[20.5], [28.5]],
            "bkg_order": 1,
            "smoothing_length": 3,
        },
        {"id": SLITLESS, "dispaxis": 2, "src_coeff": [[30.0], [41.0]], "use_source_posn": False},
    ],
}


def make_products(folder: Path) -> dict[str, Path]:
    """Write one file of each kind, and return the paths by kind."""
    kinds = ("s2d", "calints", "x1d", "x1dints", "c1d", "apcorr", "psf")
    paths = {kind: folder / f"{kind}.fits" for kind in kinds}
    paths |= {"extract1d": folder / "extract1d.json", "session": folder / "session.glu"}
    cards = fits.Header(_CARDS)
    image = slit(header=cards)
    times = Table({"integration_number": range(1, 4)})
    for name in ("int_start_MJD_UTC", "int_mid_MJD_UTC", "int_end_MJD_UTC"):
        times[name] = [60000.1, 60000.2, 60000.3]
    for name in ("int_start_BJD_TDB", "int_mid_BJD_TDB", "int_end_BJD_TDB"):
        times[name] = [60000.1, 60000.2, 60000.3]
    series = fits.Header({**_CARDS, "TSOVISIT": True, "NINTS": 3, "INTSTART": 1, "INTEND": 3})
    exposure = stack(3, header=series, times=times)
    image.write(paths["s2d"])
    exposure.write(paths["calints"])
    write_apcorr([correction(), correction("SLITLESSPRISM")], paths["apcorr"])
    waves = np.linspace(3.0, 15.0, 12)
    write_psf(PSFProfile.sampled(GaussianProfile(), waves, subpix=4.0, reach=12.0), paths["psf"])
    paths["extract1d"].write_text(json.dumps(REFERENCE))
    image, exposure = (SlitImage.read(paths[kind]) for kind in ("s2d", "calints"))
    for kind, one in (("x1d", image), ("x1dints", exposure)):
        Extract1D.from_reference(REFERENCE, one.exp_type, apply_apcorr=False).run(one).write(
            paths[kind]
        )
    wide = Extract1D.from_reference(REFERENCE, FIXED_SLIT, apply_apcorr=False)
    spectrum = wide.run(image)
    other = {**spectrum.columns, "FLUX": spectrum.columns["FLUX"] * 1.01}
    combine([spectrum, replace(spectrum, columns=other)]).write(paths["c1d"])
    paths["text"] = folder / "spectrum.csv"
    export_spectrum(str(paths["x1d"]), paths["text"], "csv")
    register()
    collection = DataCollection([open_image(paths["s2d"]), Data(a=[1.0, 2.0], label="plain")])
    collection.new_subset_group("bright", collection[1].id["a"] > 1.5)
    Application(collection).save_session(str(paths["session"]))
    return paths
