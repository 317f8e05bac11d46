"""Refinement of positions with a known profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from glue_lrs._utils.typing import Array
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import fit_rows, gauss_newton, parameter_errors, residuals
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.profiles.empirical import EmpiricalProfile

#: Distance in columns from each source up to which pixels are fitted. Pixels farther away do not
#: constrain the position, and may belong to a different source.
_REFINED_COLUMNS = 6.0

#: Largest number of steps. For faint blended sources, each step reduces the error of the position
#: by a factor of only about 2.
_REFINEMENTS = 8

#: Change as a fraction of the 1-sigma error below which the fit has converged.
_REFINED = 0.1

#: Step in columns to each side for numerical derivatives of the profile.
_DERIVATIVE_STEP = 0.05


def refine_positions(
    pixels: PixelPlanes,
    variance: Array,
    found: SourceFit,
    background: Sequence[Array],
    own_profile: bool,
) -> SourceFit:
    """Refine positions with a known profile, using all rows and the final variances.

    Parameters
    ----------
    pixels : PixelPlanes
        Image from which the models of the negative traces have already been subtracted.
    variance : ndarray
        Smooth variances of the pixels, shape (row, column).
    found : SourceFit
        Profile and traces, accurate to some tenths of a column.
    background : sequence of ndarray
        Terms of the background, each of shape (row, column).
    own_profile : bool
        Whether the profile was fitted to this image, relative to these traces. In this case the
        data do not define the centre of the profile, and the position is defined as the point about
        which the profile is most symmetric.

    Returns
    -------
    SourceFit
        Fit with shifted traces and errors of their positions. If the profile was fitted to this
        image, the `center` of the profile is set to the shift of the first trace, so that the model
        of the first source does not change.
    """
    profile, traces, positives = found.profile, found.traces, found.positives
    own = profile if own_profile and isinstance(profile, EmpiricalProfile) else None
    shape = profile if own is None else own.symmetric()
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    start = np.where(known, traces, 0.0)[:positives]
    first = np.nanmin(traces[:positives]) - _REFINED_COLUMNS
    last = np.nanmax(traces[:positives]) + _REFINED_COLUMNS
    part = pixels.columns_between(first, last)
    pixels, background = pixels.part(part), [field[:, part] for field in background]
    within = (np.abs(pixels.offsets(start)) <= _REFINED_COLUMNS).any(axis=0)
    used = pixels.good & within & known[:, np.newaxis]
    weight = np.where(used, 1.0 / variance[:, part], 0.0)
    shift, error = np.zeros((len(traces), 1)), found.shift_error
    light = shape.at(pixels.wavelength)
    for _ in range(_REFINEMENTS):
        images, derivatives = [], []
        for offset in pixels.offsets(start + shift[:positives]):
            right, left = light(offset + _DERIVATIVE_STEP), light(offset - _DERIVATIVE_STEP)
            # The mean of `right` and `left` saves time, but it is slightly too broad, which would
            # bias the positions of blended sources.
            images.append(light(offset) if positives > 1 else 0.5 * (right + left))
            derivatives.append((left - right) / (2.0 * _DERIVATIVE_STEP))
        basis = [*images, *background]
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        residual = residuals(pixels.data, basis, coefficients)
        fields = [f[:, np.newaxis] * d for f, d in zip(coefficients.T, derivatives, strict=False)]
        along = [np.ones((known.size, 1))] * positives
        change, covariance = gauss_newton(fields, along, basis, weight, residual, inverse=inverse)
        error = parameter_errors(covariance)
        shift[:positives, 0] += np.clip(change, -0.5, 0.5)
        # Convergence is quadratic for a single source, but linear for blends.
        remaining = change**2 if positives == 1 else np.abs(change)
        if (remaining < _REFINED * error).all():
            break
    if own is not None:
        shift[positives:] = shift[0]
        profile = replace(own, center=float(shift[0, 0]))
    return replace(found, profile=profile, traces=traces + shift, shift_error=error)
