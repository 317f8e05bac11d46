"""Containers of extracted spectra and their conversion to and from specutils."""
