"""Containers for extracted spectra, and conversion to and from specutils."""
