"""SourceModel: forward model of the slit for `glue_lrs.measure`, fitted row by row.

The model is

    data(r, c) = sum_s F_s(r) P(c - t_s(r)) + b0(r) + b1(r) x(c),

where r is the row, c the column, x the column scaled to the range from -1 to 1
(`SlitCutout.across`), and s the index of a source. The fluxes F and the background terms b0 and b1
are fitted independently in every row. The traces t and the profile P, which is integrated over the
pixels (`glue_lrs.profiles.diffraction`), are given. `glue_lrs.fitting.engine` fits t and P with the
derivatives that are computed here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.special import erf

from glue_lrs._utils.statistics import SIGMA_PER_MAD, running_median, smooth_flux
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

#: Outlier rejection: difference from the model in standard deviations above which a pixel is
#: rejected.
OUTLIER = 5.0

#: Outlier rejection before the first fit: largest accepted difference between a pixel and the
#: running median over rows. It is the sum of two terms.
_SPIKE, _SPIKE_FRACTION, _SPIKE_ROWS = (
    8.0,  # first term in standard deviations
    0.3,  # second term as a fraction of the median
    7,  # window length of the running median in rows
)

#: Outlier rejection before the first fit: largest accepted difference between a pixel and the
#: running median over half of the rows, in units of the largest value of this median within that
#: window. The continuum of a source varies less along so many rows; emission lines may be brighter.
_GROUP = 10.0

#: Outlier rejection: window length in rows of the running median of the residuals. Over this number
#: of rows, residuals due to a misfit of the profile are similar, unlike those due to cosmic rays.
_TREND_ROWS = 25

#: Outlier rejection: largest number of pixels that are rejected in each row, one after the other.
_ROUNDS = 8

#: Variance model: window lengths in rows.
_GAIN_ROWS, _COLUMN_ROWS, _FIRST_ROWS = (
    15,  # running sums from which the gain and the flat-field error are computed
    31,  # running mean in each column
    9,  # running median for the first estimate of the variances
)


@dataclass(frozen=True, eq=False)
class SourceGeometry:
    """Traces of the sources, and width and shape of their common profile.

    Parameters
    ----------
    traces : ndarray
        Column of each source, shape (source, row).
    log_core : ndarray
        Natural logarithm of the standard deviation of the core in columns, shape (row,).
    terms : ndarray
        Shape terms: kurtosis of the core, then the fraction of the flux in each wing spline.
    """

    traces: Array
    log_core: Array
    terms: Array


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Fit of fluxes and background in every row, with derivatives of chi-square.

    The linear parameters of a row are the fluxes of the sources and the background terms b0 and b1.
    The nonlinear parameters of a row are the positions of the sources, the logarithm of the width,
    and the shape terms.

    Parameters
    ----------
    flux, flux_variance : ndarray
        Flux of each source, and variance of the flux, shape (source, row).
    smooth : ndarray
        Fluxes smoothed over a number of rows that depends on their noise, shape (source, row).
    light : ndarray
        Sum over all sources of the absolute smooth flux times the profile, shape (row, column).
    model : ndarray
        Fitted model of the data, shape (row, column).
    chi2, freedom : float, int
        Chi-square and degrees of freedom.
    curvature, gradient : ndarray
        Curvature (row, p, p) and negative gradient (row, p) of chi-square / 2 with respect to the p
        nonlinear parameters of each row, after minimisation over the linear parameters.
    basis : ndarray
        Profiles of the sources, then background terms, shape (row, column, term).
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
    def background(self) -> Array:
        """Fitted background in each pixel, shape (row, column)."""
        number = len(self.flux)
        return self.model - np.einsum("rcs,sr->rc", self.basis[..., :number], self.flux)

    @cached_property
    def strength(self) -> Array:
        """Weighted mean over rows of the absolute value of `smooth`, shape (source,)."""
        weight = 1.0 / np.maximum(self.flux_variance.sum(axis=0), 1e-300)
        return np.asarray((np.abs(self.smooth) * weight).sum(axis=1) / weight.sum())


class SourceModel:
    """Row-by-row fit of the model to data, with methods that update variances and outliers.

    Parameters
    ----------
    slit : SlitCutout
        Pixels to fit.

    Attributes
    ----------
    slit : SlitCutout
        Pixels to fit.
    good : ndarray of bool
        Mask of the pixels that are used in the fit, without outliers, shape (row, column).
    groups : ndarray of bool
        Mask of the pixels that are rejected because they differ from half of the rows of their
        column (see `_GROUP`), same shape.
    variance : ndarray
        Smooth variance of each pixel, shape (row, column).
    noise_variance : ndarray
        Variance without that of the flat field, which is the same in all integrations of a stack.
        It is known after a call of `reweigh`.
    """

    def __init__(self, slit: SlitCutout) -> None:
        self.slit = slit
        self.good = slit.good.copy()
        # The running median removes noise and outliers from the total variance of the image.
        total = np.asarray(sum(slit.variances))
        found = running_median(total, slit.good, _FIRST_ROWS)
        found = np.where(np.isfinite(found), found, np.nanmedian(found))
        self.variance = self.noise_variance = positive_variance(found)
        # For an even number of values, this median is the mean of the two middle values, whereas
        # `outliers.reject_spikes` uses the smaller of them.
        middle = running_median(slit.data, slit.good, _SPIKE_ROWS)
        allowed = _SPIKE * np.sqrt(self.variance) + _SPIKE_FRACTION * np.abs(middle)
        with np.errstate(invalid="ignore"):
            self.good &= ~(np.abs(slit.data - middle) > allowed)
        # Reject groups of bad pixels that are longer than half of the window of the first median.
        length = slit.rows.size // 2
        middle = np.nan_to_num(running_median(slit.data, slit.good, length))
        largest = maximum_filter1d(np.abs(middle), max(length, 1), axis=0)
        excess = np.abs(slit.data - middle)
        self.groups = self.good & (excess > _SPIKE * np.sqrt(self.variance) + _GROUP * largest)
        self.good &= ~self.groups

    @property
    def rejected(self) -> int:
        """Number of rejected outliers, without pixels that are bad in the image."""
        return int((self.slit.good & ~self.good).sum())

    @property
    def weight(self) -> Array:
        """Inverse variance for good pixels, 0 for other pixels, shape (row, column)."""
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
        """Replace the variances by a smooth function of the fitted model.

        The Poisson variance is a + b light, and the flat-field variance is f model^2, where `light`
        and `model` are attributes of the fit. The coefficients a, b and f for each row are computed
        from the variances in neighbouring rows. The read-noise variance of each pixel is taken from
        the image.

        Parameters
        ----------
        linear : LinearFit
            Fit whose `light` and `model` are used.
        """
        slit = self.slit
        poisson, read, flat = slit.variances
        use = self.good.astype(float)
        length = min(_GAIN_ROWS, slit.rows.size)

        def run(values: Array) -> Array:  # its rounding errors differ from those of `running_sum`
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
        # The noise differs between columns if fewer exposures overlap in some columns, or if the
        # background has a gradient. The model is therefore scaled in each column.
        wide = min(_COLUMN_ROWS, slit.rows.size)
        seen, modelled = (
            uniform_filter1d(use * values, wide, axis=0, mode="nearest")
            for values in (poisson, noise)
        )
        noise *= np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        # The noise differs between rows where the sensitivity changes fast. The model is therefore
        # scaled in each row to the sum of the variances, whose noise is negligible.
        seen, modelled = ((use * values).sum(axis=1) for values in (poisson, noise))
        ratio = np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        noise *= ratio[:, np.newaxis]
        noise += read
        self.noise_variance = positive_variance(noise)
        self.variance = positive_variance(noise + relative[:, np.newaxis] * linear.model**2)

    def reject(self, linear: LinearFit, tolerance: float = 0.0) -> int:
        """Reject pixels that differ from the model, starting with the largest residual in each row.

        Pixels that were rejected before but now agree with the model are used again. The running
        median of the residuals over rows is first subtracted, because it is due to a misfit of the
        profile. If the scatter of the residuals is larger than their errors, the limit is increased
        accordingly.

        Parameters
        ----------
        linear : LinearFit
            Fit whose residuals are examined.
        tolerance : float
            Assumed error of the model, as a fraction of the largest model value in each row.

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
        spread = np.maximum(SIGMA_PER_MAD * np.nan_to_num(spread), 1.0)
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
        # Residuals of fitted pixels are reduced because the model is fitted to these pixels.
        # Residuals of rejected pixels are increased by the error of the model.
        scatter = np.where(
            self.good,
            np.maximum(self.variance - leverage, 0.05 * self.variance),
            self.variance + leverage,
        )
        return (self.slit.data - model) / np.sqrt(scatter)


def profile_images(slit: SlitCutout, geometry: SourceGeometry) -> tuple[Array, dict[str, Array]]:
    """Return the profile of each source on the pixels, and its derivatives.

    Parameters
    ----------
    slit : SlitCutout
        Pixels on which the profile is evaluated.
    geometry : SourceGeometry
        Traces of the sources, and width and shape of the profile.

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
