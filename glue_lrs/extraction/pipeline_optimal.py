"""PipelineOptimalExtractor: optimal extraction with a PSF reference file as in the pipeline.

This extractor is meant for comparisons with the pipeline.
`~glue_lrs.extraction.optimal.OptimalExtractor` gives better spectra. In the pipeline's extraction,
all pixels have equal weights, the profile is displaced by half a pixel unless its position is
fitted, and the fit does not converge from a wrong initial position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.apertures.placement import PlacementRule
from glue_lrs.errors import ProductError
from glue_lrs.extraction import base, psf_location
from glue_lrs.fitting.least_squares import invert_symmetric, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.image.source_position import nod_column
from glue_lrs.image.trace import expected_trace, slit_centre_trace
from glue_lrs.spectra.column_checks import NO_PIXELS, REPORTED_LOSS
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.spectra.extraction import Extraction

#: Dither patterns (PATTTYPE) in which subtracting the other nod leaves one negative trace.
_NOD_PATTERNS = ("ALONG-SLIT-NOD", "2-POINT-NOD")

#: Minimum separation of two nods in columns.
_MIN_NOD_SEPARATION = 2.0

#: Approximate number of pixels that are fitted at a time. It limits the memory.
_BLOCK_PIXELS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class PipelineOptimalExtractor:
    """Optimal extraction with a PSF reference file, as in the pipeline's ``extract_1d``.

    Parameters
    ----------
    psf : PSFProfile
        Spatial profile from the PSF reference file.
    aperture : Aperture
        Aperture that determines the shift of the background regions when it is placed on the
        source. It is not used otherwise.
    placement : PlacementRule
        Rule by which the profile follows the source.
    background : Background, optional
        Background whose regions and polynomial order are used.
    bkg_order : int, optional
        Order of the background polynomial if `background` is None. If both are None, no background
        is fitted.
    model_nod_pair : bool
        Whether to fit the negative trace from the other nod if the header indicates that there is
        one. This requires that the image is not resampled and that the source position is known.
    optimize_psf_location : bool
        Whether to fit the position of the source.

    Notes
    -----
    No aperture correction is applied. In rows that have any bad pixel, BKGD_ERROR and the
    background variances are NaN in the pipeline, whereas they are computed here.
    """

    psf: PSFProfile
    aperture: Aperture
    placement: PlacementRule = field(default_factory=PlacementRule)
    background: Background | None = None
    bkg_order: int | None = None
    model_nod_pair: bool = True
    optimize_psf_location: bool = True

    def run(self, image: SlitImage, *, check: bool = True) -> Extraction:
        """Extract a spectrum, or one spectrum per integration of a stack.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.
        check : bool
            Whether to check the sign of the flux, and for pixels that drizzle filled in.

        Returns
        -------
        Extraction
            The columns of an x1d and QUALITY. SURF_BRIGHT and its errors are 0. NPIXELS is the
            effective number of pixels in the profile P, which is sum P / sum P^2.

        Raises
        ------
        ProductError
            If the image cannot be extracted.

        Warns
        -----
        LRSWarning
            If the position of the source is unknown.
        """
        findings: list[Finding] = []
        scale = base.jansky_per_sum(image)
        placement = self.placement.place(self.aperture, image, findings)
        location = self.locate(image, placement, findings)
        profile = location.profiles[0]
        on_source = (profile > 0) & ~np.isnan(image.wavelength)
        rows = np.flatnonzero(on_source.any(axis=1))
        if rows.size == 0:
            raise ProductError("the PSF profile has no flux on the image", subject=image.label)
        columns = self._columns(image, placement, location, rows, findings)
        empty = ~(np.abs(columns["NPIXELS"]) > NO_PIXELS)
        pixels = np.where(columns["NPIXELS"] > 0, columns["NPIXELS"], 1.0)
        columns["FLUX"] *= scale
        columns["BACKGROUND"] /= pixels
        for component in COMPONENTS:
            columns[f"FLUX_VAR_{component}"] *= scale**2
            columns[f"BKGD_VAR_{component}"] /= pixels**2
        weight = np.where(on_source, profile, 0.0)[rows]
        base.complete_columns(image, columns, empty, image.wavelength[rows], weight)
        findings += base.image_findings(image, columns["FLUX_ERROR"])
        square = (profile[rows] ** 2).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            effective_pixels = profile[rows].sum(axis=1) / square
            weight = profile[rows] / square[:, np.newaxis]
        filled = base.filled_pixels(image, rows, weight)
        if check:
            findings += base.flux_sign(image, columns)
            wave = np.atleast_2d(columns["WAVELENGTH"])[0]
            findings += base.filled_findings(image, filled, effective_pixels, wave)
        base.emit_findings(image, findings)
        positive = np.maximum(profile, 0.0)
        in_rows, in_columns = positive.sum(axis=1), positive.sum(axis=0)
        return base.assemble_extraction(
            image,
            columns,
            limits=psf_location.box_bounds(image)[0],
            rows=(int(rows[0]), int(rows[-1])),
            centroid=(
                float(in_columns @ np.arange(profile.shape[1]) / positive.sum()),
                float(in_rows @ np.arange(profile.shape[0]) / in_rows.sum()),
            ),
            aperture_weight=effective_pixels,
            position={
                "offset": placement.offset,
                "background_offset": placement.background_offset,
                "shift": location.shift,
                "nod_offset": location.nod_offset,
            },
            findings=findings,
            quality={
                "lost": columns["NPIXELS"] < effective_pixels - REPORTED_LOSS,
                "filled": filled > REPORTED_LOSS,
                "edge": self._light(image, location, rows) < 1.0 - base.OFF_IMAGE,
            },
        )

    def _light(
        self, image: SlitImage, location: psf_location.PSFLocation, rows: NDArray[np.intp]
    ) -> Array:
        """Return the fraction of the flux on the image in each of the rows.

        It is computed from the PSF, because `location.profiles` are normalised to 1 on the image.
        """
        wave = np.where(np.isfinite(image.wavelength), image.wavelength, 0.0)[rows]
        known = wave > 0
        offset = np.arange(image.shape[1]) - location.trace[rows, np.newaxis] + location.shift
        light = self.psf(offset, wave.sum(axis=1) / known.sum(axis=1))
        return np.asarray((light * known).sum(axis=1))

    def trace(self, image: SlitImage, placement: Placement) -> Array | None:
        """Return the expected column of the source in each row, or None if unknown."""
        if placement.position is None:
            return None
        return expected_trace(image) + self.placement.position_offset

    def middle_trace(self, image: SlitImage) -> Array:
        """Return the trace at the centre of the slit, for use if the source position is unknown."""
        return slit_centre_trace(image)

    def locate(
        self, image: SlitImage, placement: Placement, findings: list[Finding] | None = None
    ) -> psf_location.PSFLocation:
        """Find the position of the profile on an image.

        Parameters
        ----------
        image : SlitImage
            Image on which the profile is located.
        placement : Placement
            Placement of the aperture, which includes the position of the source.
        findings : list of Finding, optional
            List to which findings about the negative trace are appended.

        Returns
        -------
        PSFLocation
            The profile sampled on the image, and its position.

        Raises
        ------
        ProductError
            If the position is to be fitted and the image has no VAR_RNOISE.
        """
        findings = [] if findings is None else findings
        (left, right), (bottom, top) = psf_location.box_bounds(image)
        cut = slice(bottom, top), slice(left, right)
        edge, middle_row = image.bounding_box[0][0], sum(image.bounding_box[1]) / 2.0
        trace = self.trace(image, placement)
        nod_offset = None
        if trace is None:
            trace = self.middle_trace(image)
        elif self.model_nod_pair:
            nod_offset = self._nod_offset(image, float(trace[round(middle_row)]), findings)
        wavelength = np.asarray(image.wavelength[cut], dtype=float)
        read = psf_location.profile_reader(self.psf, wavelength)
        place = np.arange(right - left) - (trace[bottom:top] - edge)[:, np.newaxis]
        place = place * self.psf.subpix + self.psf.center

        def profiles(shift: float, nod: float | None) -> list[Array]:
            moved = place + shift * self.psf.subpix
            both = [psf_location.normalise_rows(read(moved))]
            if nod is not None:
                both.append(-psf_location.normalise_rows(read(moved + nod * self.psf.subpix)))
            return both

        shift = 0.0
        if self.optimize_psf_location:
            shift, nod_offset = psf_location.fit_location(image, cut, profiles, nod_offset)
        parts = profiles(shift, nod_offset)
        full = np.zeros((len(parts), *image.shape))
        full[(slice(None), *cut)] = parts
        return psf_location.PSFLocation(trace, shift, nod_offset, tuple(full))

    def _nod_offset(
        self, image: SlitImage, location: float, findings: list[Finding]
    ) -> float | None:
        """Return the number of columns from the negative trace to the source.

        Returns None if there is no negative trace, or if its position is unknown.
        """
        pattern = LazyHeader.view(image.header).get("PATTTYPE")
        if not image.is_background_subtracted or pattern not in _NOD_PATTERNS:
            return None
        column = nod_column(image)
        if column is not None and abs(location - column) >= _MIN_NOD_SEPARATION:
            return location - column
        findings.append(
            Finding(
                "fit",
                "a negative trace is not modelled: the WCS does not give the position of the "
                "other nod",
            )
        )
        return None

    def _columns(
        self,
        image: SlitImage,
        placement: Placement,
        location: psf_location.PSFLocation,
        rows: NDArray[np.intp],
        findings: list[Finding],
    ) -> base.Columns:
        """Return the table columns in the units of the image.

        BACKGROUND and its variances are sums over the profile. They must still be divided by the
        effective number of pixels.
        """
        order = self.bkg_order
        used = np.zeros(image.shape, dtype=bool)
        if self.background is not None:
            order = self.background.bkg_order
            weights = self.background.weights(
                image.wavelength, placement.background_offset, findings
            )
            used = weights.full(image.shape) != 0
        known = np.isfinite(image.wavelength)
        fields = [np.where(known, profile, 0.0) for profile in location.profiles]
        used |= np.any([image_plane != 0 for image_plane in fields], axis=0)
        used_columns = np.flatnonzero(used[rows].any(axis=0))
        part = slice(int(used_columns[0]), int(used_columns[-1]) + 1)
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        kept = rows - span.start
        used = used[span, part][kept]
        profile_images = [image_plane[span, part][kept] for image_plane in fields]
        x = np.linspace(-1.0, 1.0, image.shape[1])[part]
        terms = range(0 if order is None else order + 1)
        background_basis: list[Array] = [np.broadcast_to(x**i, used.shape) for i in terms]
        number = image.data.shape[0] if image.is_stack else 1
        columns: base.Columns = {name: np.zeros((number, rows.size)) for name in COLUMNS}
        step = max(_BLOCK_PIXELS // used.size, 1)
        for first in range(0, number, step):
            block = slice(first, min(first + step, number))

            def read(plane: NDArray[Any], block: slice = block) -> NDArray[Any]:
                pixels = plane[block, span, part] if image.is_stack else plane[span, part]
                return pixels[..., kept, :]

            data, variances, good = read_pixels(image, read)
            out = {name: values[block] for name, values in columns.items()}
            _extract(data, variances, good, used, profile_images, background_basis, out)
        return columns if image.is_stack else {name: column[0] for name, column in columns.items()}


def _extract(
    data: Array,
    variances: list[Array | None],
    good: Mask,
    used: Mask,
    profile_images: list[Array],
    background_basis: list[Array],
    out: base.Columns,
) -> None:
    """Fit each row by least squares with equal weights, and write the results to `out`."""
    basis = background_basis + profile_images
    mask = (good & used).astype(float)
    weighted = [term * mask for term in basis]
    inverse, _ = invert_symmetric(normal(basis, weighted))
    vector = np.stack([np.einsum("...c,...c->...", term, data) for term in weighted], axis=-1)
    coefficients = np.einsum("...ij,...j->...i", inverse, vector)
    source = len(background_basis)
    response = np.zeros_like(data)
    for i, term in enumerate(weighted):
        response += inverse[..., source, i, np.newaxis] * term
    out["FLUX"][...] = coefficients[..., source]
    profile = profile_images[0]
    kept = profile * good
    with np.errstate(invalid="ignore", divide="ignore"):
        out["NPIXELS"][...] = kept.sum(axis=-1) / (profile**2).sum(axis=-1)
        alone = kept / (profile * kept).sum(axis=-1)[..., np.newaxis]
    alone[~np.isfinite(alone)] = 0.0
    response *= response
    for component, values in zip(COMPONENTS, variances, strict=True):
        if values is None:
            continue
        if not np.isfinite(values).all():  # infinite variances matter only where response > 0
            values = np.where(response > 0, values, 0.0)
        total = np.einsum("...c,...c->...", response, values)
        out[f"FLUX_VAR_{component}"][...] = total
        if background_basis:
            without_background = np.einsum("...c,...c,...c->...", alone, alone, values)
            out[f"BKGD_VAR_{component}"][...] = np.maximum(total - without_background, 0.0)
    for i, term in enumerate(background_basis):
        out["BACKGROUND"] += coefficients[..., i] * (alone * term).sum(axis=-1)
