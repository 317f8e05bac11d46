"""Combination of spectra."""
