"""Apertures and backgrounds, with pixel weights, background fits and the aperture correction."""
