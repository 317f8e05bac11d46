"""SourceModel: forward model of the slit for `glue_lrs.measure`, fitted row by row.

The model is

    data(r, c) = sum_s F_s(r) P(c - t_s(r)) + b0(r) + b1(r) c,

with the row r, the column c and the number s of a source. The fluxes F and the background terms b0
and b1 are fitted freely in every row. The traces t and the profile P, which is integrated over the
pixels (`glue_lrs.profiles.diffraction`), are given. `glue_lrs.fitting.engine` improves t and P by
means of derivatives that are computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.special import erf

from glue_lrs._utils.statistics import running_median, smooth_flux
from glue_lrs._utils.typing import Array
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.least_squares import fit_rows_ridge
from glue_lrs.fitting.noise_model import positive_variance
from glue_lrs.profiles.diffraction import (
    SHAPES,
    kurtosis_factor,
    normal_density,
    read_wing,
    wing_grid_position,
)

#: Outlier rejection: number of standard deviations from the model above which a pixel is rejected.
OUTLIER = 5.0

#: Outlier rejection before the first fit: largest difference of a pixel from the running median
#: along the rows. It is the sum of a number of standard deviations (first value) and a fraction of
#: the median (second value). The third value is the length of the median in rows.
_SPIKE, _SPIKE_FRACTION, _SPIKE_ROWS = 8.0, 0.3, 7

#: Outlier rejection: window length in rows of the running median of the residuals. A misfit of the
#: profile persists over this number of rows, a cosmic ray does not.
_TREND_ROWS = 25

#: Outlier rejection: largest number of pixels that are rejected in each image row, one by one.
_ROUNDS = 8

#: Variance model: window length in rows of the running sums from which gain and flat-field error
#: are computed (first value), of the running mean in each column (second value), and of the running
#: median for the first estimate of the variances (third value).
_GAIN_ROWS, _COLUMN_ROWS, _FIRST_ROWS = 15, 31, 9


@dataclass(frozen=True, eq=False)
class SourceGeometry:
    """Traces of the sources, and width and shape of their profile.

    Parameters
    ----------
    traces : ndarray
        Column of each source, shape (source, row).
    log_core : ndarray
        Natural logarithm of the standard deviation of the core in columns, shape (row,).
    terms : ndarray
        Terms of the shape: kurtosis of the core, then the fraction of the flux in each wing spline.
    """

    traces: Array
    log_core: Array
    terms: Array


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Fit of fluxes and background in every row, with derivatives of chi-square.

    The linear parameters of a row are the fluxes of the sources and the background terms b0 and b1.
    The nonlinear parameters of a row are the positions of all sources, the logarithm of the width
    and the terms of the shape.

    Parameters
    ----------
    flux, flux_variance : ndarray
        Flux of each source and variance of the flux, shape (source, row).
    smooth : ndarray
        Fluxes averaged over as many rows as their noise requires, shape (source, row).
    light : ndarray
        Sum over all sources of the absolute smooth flux times the profile, shape (row, column).
    model : ndarray
        Fitted model of the data, shape (row, column).
    chi2, freedom : float, int
        Chi-square and degrees of freedom.
    curvature, gradient : ndarray
        Curvature (row, p, p) and downhill gradient (row, p) of half of chi-square for the p
        nonlinear parameters of each row. The linear parameters are projected out.
    basis : ndarray
        Profiles and background terms, shape (row, column, term).
    inverse : ndarray
        Inverse normal matrices of the linear parameters, shape (row, term, term).
    """

    flux: Array
    flux_variance: Array
    smooth: Array
    light: Array
    model: Array
    chi2: float
    freedom: int
    curvature: Array
    gradient: Array
    basis: Array
    inverse: Array

    @cached_property
    def strength(self) -> Array:
        """Weighted mean over rows of the absolute smooth flux of each source, shape (source,)."""
        weight = 1.0 / np.maximum(self.flux_variance.sum(axis=0), 1e-300)
        return np.asarray((np.abs(self.smooth) * weight).sum(axis=1) / weight.sum())


class SourceModel:
    """Row-by-row fit of the model to data, with variances and outliers that can be updated.

    Parameters
    ----------
    slit : SlitCutout
        Pixels to fit.

    Attributes
    ----------
    slit : SlitCutout
        Pixels to fit.
    good : ndarray of bool
        Pixels that take part in the fit, without outliers, shape (row, column).
    variance : ndarray
        Smooth variance of each pixel, shape (row, column).
    """

    def __init__(self, slit: SlitCutout) -> None:
        self.slit = slit
        self.good = slit.good.copy()
        # The running median reduces noise and outliers of the total variance of the image.
        total = np.asarray(sum(slit.variances))
        found = running_median(total, slit.good, _FIRST_ROWS)
        found = np.where(np.isfinite(found), found, np.nanmedian(found))
        self.variance = positive_variance(found)
        # If the number of rows is even, this median is the mean of the two middle values. In
        # `outliers.reject_spikes` it is the lower of them.
        middle = running_median(slit.data, slit.good, _SPIKE_ROWS)
        allowed = _SPIKE * np.sqrt(self.variance) + _SPIKE_FRACTION * np.abs(middle)
        with np.errstate(invalid="ignore"):
            self.good &= ~(np.abs(slit.data - middle) > allowed)

    @property
    def rejected(self) -> int:
        """Number of rejected outliers, without pixels that are already bad in the image."""
        return int((self.slit.good & ~self.good).sum())

    @property
    def weight(self) -> Array:
        """Inverse variance of good pixels and 0 for other pixels, shape (row, column)."""
        return self.good / self.variance

    # --- fit -----------------------------------------------------------------------------------

    def solve(self, geometry: SourceGeometry) -> LinearFit:
        """Fit fluxes and background in every row, and compute curvature and gradient."""
        slit, weight = self.slit, self.weight
        number, rows, columns = len(geometry.traces), slit.rows.size, slit.columns.size
        images, changes = profile_images(slit, geometry)
        basis = np.empty((rows, columns, number + 2))
        basis[..., :number] = np.moveaxis(images, 0, -1)
        basis[..., number] = 1.0
        basis[..., number + 1] = slit.across
        linear, inverse, model = fit_rows_ridge(basis, weight, slit.data)
        residual = slit.data - model
        flux, flux_variance = linear[:, :number].T, np.einsum("rii->ir", inverse)[:number]
        smooth = np.array([smooth_flux(f, v) for f, v in zip(flux, flux_variance, strict=True)])
        smooth = smooth.reshape(number, rows)
        jacobian = np.empty((rows, columns, number + 1 + SHAPES))
        for s in range(number):
            jacobian[..., s] = smooth[s][:, np.newaxis] * changes["shift"][s]
        for n, name in enumerate(("core", "kurtosis")):
            jacobian[..., number + n] = np.einsum("sr,src->rc", smooth, changes[name])
        jacobian[..., number + 2 :] = np.einsum("sr,srck->rck", smooth, changes["wings"])
        weighted = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
        jacobian -= basis @ (inverse @ (weighted @ jacobian))
        weighted = np.swapaxes(jacobian * weight[..., np.newaxis], 1, 2)
        return LinearFit(
            flux=flux,
            flux_variance=flux_variance,
            smooth=smooth,
            light=np.einsum("sr,src->rc", np.abs(smooth), images),
            model=model,
            chi2=float((weight * residual**2).sum()),
            freedom=max(int(self.good.sum()) - rows * (number + 2), 1),
            curvature=weighted @ jacobian,
            gradient=(weighted @ residual[..., np.newaxis])[..., 0],
            basis=basis,
            inverse=inverse,
        )

    # --- variances and outliers ----------------------------------------------------------------

    def reweigh(self, linear: LinearFit) -> None:
        """Update the variances with a model that is smooth in the fitted flux.

        The Poisson variance is a + b light, the flat-field variance f model^2, with the attributes
        `light` and `model` of the fit. The coefficients a, b and f of each row are computed from
        the variances of neighbouring rows. The variance of the read noise is taken from the image
        for each pixel.

        Parameters
        ----------
        linear : LinearFit
            Fit whose `light` and `model` are used.
        """
        slit = self.slit
        poisson, read, flat = slit.variances
        use = self.good.astype(float)
        length = min(_GAIN_ROWS, slit.rows.size)

        def run(values: Array) -> Array:  # has different rounding errors than `running_sum`
            kernel = np.ones(length)
            return np.convolve((use * values).sum(axis=1), kernel, mode="same")

        light = linear.light
        n, sl, sll = run(np.ones_like(light)), run(light), run(light**2)
        sp, slp = run(poisson), run(light * poisson)
        spread = sll * n - sl**2
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = np.where(spread > 1e-9 * sll * n, (slp * n - sl * sp) / spread, 0.0)
            gain = np.maximum(np.nan_to_num(gain), 0.0)
            level = np.maximum(np.nan_to_num((sp - gain * sl) / n), 0.0)
            relative = np.nan_to_num(run(flat) / run(slit.data**2))
        noise = level[:, np.newaxis] + gain[:, np.newaxis] * light
        # The noise differs between columns if fewer exposures overlap in some of them, or if the
        # background has a gradient. The model is therefore scaled in each column.
        wide = min(_COLUMN_ROWS, slit.rows.size)
        seen, modelled = (
            uniform_filter1d(use * values, wide, axis=0, mode="nearest")
            for values in (poisson, noise)
        )
        noise *= np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        # The noise differs between rows if the sensitivity changes fast. The model is therefore
        # scaled in each row by the sum of its variances, which is hardly noisy.
        seen, modelled = ((use * values).sum(axis=1) for values in (poisson, noise))
        ratio = np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        noise *= ratio[:, np.newaxis]
        self.variance = positive_variance(noise + read + relative[:, np.newaxis] * linear.model**2)

    def reject(self, linear: LinearFit, tolerance: float = 0.0) -> int:
        """Reject pixels that are far from the model, starting with the farthest in each row.

        Pixels that were rejected before but now agree with the model are used again. Residuals that
        persist along the rows are caused by a misfit of the profile, so their running median is
        subtracted first. If residuals scatter by more than their errors, they are divided by the
        measured scatter.

        Parameters
        ----------
        linear : LinearFit
            Fit whose residuals are examined.
        tolerance : float
            Assumed error of the model, as a fraction of its brightest pixel in each row.

        Returns
        -------
        int
            Number of pixels that were rejected or are used again.
        """
        slit, basis = self.slit, linear.basis
        before = self.good.copy()
        scaled = self._scaled(linear.model, basis, linear.inverse)
        trend = np.nan_to_num(running_median(scaled, self.good, _TREND_ROWS))
        spread = running_median(np.abs(scaled - trend), self.good, _TREND_ROWS)
        spread = np.maximum(1.4826 * np.nan_to_num(spread), 1.0)
        if tolerance:
            missed = tolerance * np.abs(linear.model).max(axis=1, keepdims=True)
            spread += missed / np.sqrt(self.variance) / OUTLIER
        self.good |= slit.good & (np.abs(scaled - trend) < (OUTLIER - 1.0) * spread)
        for _ in range(_ROUNDS):
            _, inverse, model = fit_rows_ridge(basis, self.weight, slit.data)
            score = np.abs(self._scaled(model, basis, inverse) - trend) / spread
            score[~self.good] = 0.0
            worst = score.argmax(axis=1)
            rows = np.flatnonzero(score.max(axis=1) > OUTLIER)
            if rows.size == 0:
                break
            self.good[rows, worst[rows]] = False
        return int((before ^ self.good).sum())

    def _scaled(self, model: Array, basis: Array, inverse: Array) -> Array:
        """Return the residuals divided by their standard deviations, shape (row, column).

        Parameters
        ----------
        model : ndarray
            Fitted model, shape (row, column).
        basis, inverse : ndarray
            Profiles and background terms (row, column, term), and inverse normal matrices
            (row, term, term), from which the errors of the model are computed.
        """
        leverage = ((basis @ inverse) * basis).sum(axis=-1)
        # The model follows the fitted pixels, which reduces their residuals. The residuals of
        # rejected pixels are increased by the error of the model.
        scatter = np.where(
            self.good,
            np.maximum(self.variance - leverage, 0.05 * self.variance),
            self.variance + leverage,
        )
        return (self.slit.data - model) / np.sqrt(scatter)


def profile_images(slit: SlitCutout, geometry: SourceGeometry) -> tuple[Array, dict[str, Array]]:
    """Return the profile of each source on the pixels, and the derivatives of the profile.

    Parameters
    ----------
    slit : SlitCutout
        Pixels on which the profile is evaluated.
    geometry : SourceGeometry
        Traces and profile of the sources.

    Returns
    -------
    images : ndarray
        Fraction of the flux on each pixel, shape (source, row, column).
    derivatives : dict of ndarray
        Derivatives of `images` with respect to the position (key ``shift``), the logarithm of the
        width (``core``) and the kurtosis (``kurtosis``), each of shape (source, row, column), and
        with respect to the flux in each wing spline (``wings``), shape
        (source, row, column, spline).
    """
    edges = np.arange(slit.columns[0], slit.columns[-1] + 2) - 0.5
    x = edges - geometry.traces[..., np.newaxis]
    core = np.exp(geometry.log_core)[:, np.newaxis]
    per_wave = slit.scale / slit.wave[:, np.newaxis]
    kurtosis, light = float(geometry.terms[0]), geometry.terms[1:]
    halo = float(light.sum())
    inner, outer = x / core, x * per_wave
    normal = normal_density(inner)
    third = normal * (inner * inner - 3.0) * inner
    below = 0.5 * erf(inner / math.sqrt(2.0)) - kurtosis / 24.0 * third
    core_light = np.diff(below, axis=-1)
    place = wing_grid_position(outer)
    each = np.diff(read_wing(place, None, 0), axis=-2)
    at_edges = normal * kurtosis_factor(inner, kurtosis)
    density = (1.0 - halo) * at_edges / core + read_wing(place, light, 1) * per_wave
    return (1.0 - halo) * core_light + each @ light, {
        "shift": -np.diff(density, axis=-1),
        "core": -(1.0 - halo) * np.diff(inner * at_edges, axis=-1),
        "kurtosis": -(1.0 - halo) / 24.0 * np.diff(third, axis=-1),
        "wings": each - core_light[..., np.newaxis],
    }
