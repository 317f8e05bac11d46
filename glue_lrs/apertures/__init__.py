"""Apertures and backgrounds: limits, pixel weights, background fits and the aperture correction."""
