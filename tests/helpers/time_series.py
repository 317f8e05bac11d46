"""Long simulated time series of a transit, written to the files of their segments in chunks.

The image of the star at each position, the background and the variances are those of the simulator.
Some integrations are made at a time, and written to files that were allocated before, so that the
memory does not depend on the number of integrations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import vstack

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.image_writer import times_hdu
from glue_lrs.simulation import Scene, Simulated, Source
from glue_lrs.simulation.headers import integration_times
from glue_lrs.simulation.optics import PIXEL_SCALE

#: Aperture and background regions of the extraction, columns.
APERTURE = {"xstart": 30, "xstop": 41, "bkg_coeff": [[4.5], [22.5], [48.5], [66.5]]}

#: Number of integrations that are simulated at a time.
CHUNK = 64

#: Planes of a calints, and bytes of a pixel in all of them.
PLANES = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
BYTES = 4 * len(PLANES)


@dataclass(frozen=True, kw_only=True)
class Defects:
    """Defects of the pixels of a time series.

    Parameters
    ----------
    lost : float
        Fraction of the pixels of each integration that are NaN.
    rays : float
        Fraction of the pixels of each integration that a cosmic ray brightened, without a flag, by
        a value between 100 and 20,000 MJy/sr with a uniform logarithm.
    hot : float
        Fraction of the pixels that are too bright in all integrations, by up to 3000 MJy/sr.
    drift : float
        Displacement of the source from the first to the last integration in columns.
    """

    lost: float = 0.002
    rays: float = 0.001
    hot: float = 0.01
    drift: float = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class TimeSeries:
    """Simulated time series of a transit.

    Parameters
    ----------
    number : int
        Number of integrations.
    depth : float
        Depth of the transit, from 30% to 70% of the time.
    flux : float
        Flux of the star in Jy.
    defects : Defects
        Defects of the pixels.
    seed : int
        Seed of all random numbers.
    """

    number: int
    depth: float = 0.01
    flux: float = 0.1
    defects: Defects = field(default_factory=Defects)
    seed: int = 0

    @property
    def phase(self) -> np.ndarray:
        return np.arange(self.number) / self.number

    @property
    def inside(self) -> np.ndarray:
        """Mask of the integrations in transit."""
        return (self.phase >= 0.3) & (self.phase < 0.7)

    @property
    def shifts(self) -> np.ndarray:
        """Displacement of the source in columns."""
        return self.defects.drift * (self.phase - 0.5)

    @cached_property
    def hot(self) -> np.ndarray:
        """Excess of the hot pixels in MJy/sr, shape (row, column)."""
        rng = np.random.default_rng([self.seed, 1])
        found = rng.random((416, 72)) < self.defects.hot
        return np.where(found, 3000.0 * rng.random(found.shape), 0.0).astype(np.float32)

    @cached_property
    def made(self) -> Simulated:
        """One integration from the simulator, whose header and true values are used."""
        return self._scene().calints(1)

    @cached_property
    def _images(self) -> np.ndarray:
        """Polynomial of the star's image in the displacement, shape (3, row, column)."""
        step = max(abs(self.defects.drift), 1e-3)
        low, middle, high = (
            truth.data - truth.background
            for truth in (
                self._scene(pointing_error=shift * PIXEL_SCALE).calints(1).truth
                for shift in (-step, 0.0, step)
            )
        )
        return np.array(
            [middle, (high - low) / (2 * step), (high - 2 * middle + low) / 2 / step**2]
        )

    def _scene(self, **options: float) -> Scene:
        # The flat field is perfect, so that the truth of the pixels is that of all integrations.
        return Scene(
            sources=(Source(flux=self.flux),), exposure_time=30.0, flat_error=0.0, seed=self.seed,
            **options,
        )  # fmt: skip

    def chunk(self, first: int, stop: int) -> SlitImage:
        """Return the stack of the integrations from `first` to `stop` - 1.

        The pixels have many electrons, so that their noise is normal.
        """
        at, truth = slice(first, stop), self.made.truth
        rng = np.random.default_rng([self.seed, 2, first])
        factors = np.where(self.inside, 1.0 - self.depth, 1.0)[at]
        terms = np.array([np.ones(stop - first), self.shifts[at], self.shifts[at] ** 2]) * factors
        per_electron = (truth.var_poisson / truth.data).astype(np.float32)
        star = np.tensordot(terms.T, self._images, 1).astype(np.float32)
        data = star + truth.background.astype(np.float32)
        variance = np.maximum(data, 0.0) * per_electron + truth.var_rnoise.astype(np.float32)
        data += np.sqrt(variance) * rng.standard_normal(data.shape, dtype=np.float32)
        data += self.hot
        struck = np.flatnonzero(rng.random(data.shape, dtype=np.float32) < self.defects.rays)
        data.flat[struck] += (10.0 ** rng.uniform(2.0, 4.3, struck.size)).astype(np.float32)
        poisson = np.maximum(data, 0.0) * per_electron
        data[rng.random(data.shape, dtype=np.float32) < self.defects.lost] = np.nan
        read = np.broadcast_to(truth.var_rnoise.astype(np.float32), data.shape)
        return replace(
            self.made.image,
            data=data,
            err=np.sqrt(poisson + read),
            var_poisson=poisson,
            var_rnoise=read,
            var_flat=np.zeros_like(data),
            dq=np.zeros(data.shape, dtype=np.uint32),
            times=integration_times(first + 1, stop - first, 30.0),
        )

    def write(self, folder: Path, segments: int = 10) -> list[Path]:
        """Write the files of the segments, and return their paths."""
        edges = np.linspace(0, self.number, segments + 1).round().astype(int).tolist()
        return [
            self._write(folder / f"transit-seg{number:03d}_calints.fits", number, first, stop)
            for number, (first, stop) in enumerate(pairwise(edges), start=1)
        ]

    def write_blank(self, path: Path) -> Path:
        """Write one file whose pixels are 0, which takes little space on most disks."""
        return self._write(path, 1, 0, self.number, blank=True)

    def _write(self, path: Path, segment: int, first: int, stop: int, blank: bool = False) -> Path:
        """Write one segment in chunks, or without values."""
        starts = list(range(first, stop, CHUNK))
        self.chunk(first, first + 1).write(path)
        with fits.open(path) as hdus:
            hdus = fits.HDUList([hdu.copy() for hdu in hdus])
            for name in PLANES:
                hdus[name].data  # noqa: B018 - loaded before the file is replaced
        with path.open("wb") as stream:
            where = dict(self._allocated(stream, hdus, segment, first, stop))
        times = [integration_times(first + 1, stop - first, 30.0)] if blank else []
        for start in () if blank else starts:
            image = self.chunk(start, min(start + CHUNK, stop))
            times.append(image.times)
            for name, offset in where.items():
                plane = image.data if name == "SCI" else getattr(image, name.lower())
                stored = plane ^ np.uint32(1 << 31) if name == "DQ" else plane
                shape = (stop - first, *plane.shape[1:])
                kind = ">i4" if name == "DQ" else ">f4"
                target = np.memmap(path, kind, "r+", offset, shape)
                target[start - first : start - first + len(plane)] = (
                    stored.view(np.int32) if name == "DQ" else stored
                )
                del target
        with fits.open(path, mode="append") as hdus:
            hdus.append(times_hdu(vstack(times)))
        return path

    def _allocated(self, stream, hdus, segment: int, first: int, stop: int) -> Iterator:
        """Write all headers, and yield name and offset of each plane."""
        for hdu in hdus:
            if hdu.name in ("INT_TIMES", "ASDF"):
                continue
            header = hdu.header.copy()
            if hdu.name in PLANES:
                header["NAXIS3"] = stop - first
            if hdu.name == "PRIMARY":
                header.update(
                    {"EXSEGNUM": segment, "INTSTART": first + 1, "INTEND": stop, "TSOVISIT": True,
                     "NINTS": self.number}
                )  # fmt: skip
            if hdu.name == "DQ":
                header["BZERO"], header["BSCALE"], header["BITPIX"] = 1 << 31, 1, 32
            stream.write(header.tostring().encode("ascii"))
            if hdu.name in PLANES:
                yield hdu.name, stream.tell()
                size = (stop - first) * hdu.shape[1] * hdu.shape[2] * 4
                stream.truncate(stream.tell() + -(-size // 2880) * 2880)
                stream.seek(0, 2)
            elif hdu.name == "WAVELENGTH":
                raw = hdu.data.astype(">f4").tobytes()
                stream.write(raw + bytes(-len(raw) % 2880))
