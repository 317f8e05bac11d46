"""Long simulated time series of a transit, written to the files of their segments in chunks.

The simulator makes some integrations at a time, which are written to files that were allocated
before, so that the memory does not depend on the number of integrations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import vstack

from glue_lrs.io.image_writer import times_hdu
from glue_lrs.simulation import Scene, Source, Truth

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


@dataclass(frozen=True, kw_only=True)
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
    distinct : int, optional
        Number of chunks that are simulated, after which the noise of their pixels repeats. By
        default, all are.
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

    @property
    def hot(self) -> np.ndarray:
        """Excess of the hot pixels in MJy/sr, shape (row, column)."""
        rng = np.random.default_rng([self.seed, 1])
        found = rng.random((416, 72)) < self.defects.hot
        return np.where(found, 3000.0 * rng.random(found.shape), 0.0).astype(np.float32)

    @property
    def truth(self) -> Truth:
        """Values without noise and defects."""
        return self._scene(0).calints(1).truth

    def _scene(self, first: int) -> Scene:
        # The flat field would differ between chunks, which have different seeds.
        return Scene(
            sources=(Source(flux=self.flux),), exposure_time=30.0, flat_error=0.0,
            seed=1000 * self.seed + first,
        )  # fmt: skip

    def chunk(self, first: int, stop: int):
        """Return the stack of the integrations from `first` to `stop` - 1."""
        at = slice(first, stop)
        factors = np.where(self.inside, 1.0 - self.depth, 1.0)[at]
        image = self._scene(first).calints(
            stop - first, factors=factors, shifts=self.shifts[at], first=first + 1,
            n_total=self.number,
        ).image  # fmt: skip
        rng = np.random.default_rng([self.seed, 2, first])
        data = image.data
        data += self.hot
        struck = rng.random(data.shape, dtype=np.float32) < self.defects.rays
        data[struck] += 10.0 ** rng.uniform(2.0, 4.3, int(struck.sum()))
        data[rng.random(data.shape, dtype=np.float32) < self.defects.lost] = np.nan
        return image

    def write(self, folder: Path, segments: int = 10) -> list[Path]:
        """Write the files of the segments, and return their paths."""
        edges = np.linspace(0, self.number, segments + 1).round().astype(int).tolist()
        return [
            self._write(folder / f"transit-seg{number:03d}_calints.fits", number, first, stop)
            for number, (first, stop) in enumerate(zip(edges, edges[1:], strict=False), start=1)
        ]

    def _write(self, path: Path, segment: int, first: int, stop: int) -> Path:
        """Write one segment in chunks."""
        starts = list(range(first, stop, CHUNK))
        small = self.chunk(first, first + 1)
        small.write(path)
        with fits.open(path) as hdus:
            hdus = fits.HDUList([hdu.copy() for hdu in hdus])
            for name in PLANES:
                hdus[name].data  # noqa: B018 - loaded before the file is replaced
        with path.open("wb") as stream:
            where = dict(self._allocated(stream, hdus, segment, first, stop))
        times = []
        for start in starts:
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
