"""Apertures and backgrounds, their pixel weights, background fits and aperture correction."""
