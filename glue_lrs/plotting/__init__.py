"""Figures of images, spectra and fits."""
