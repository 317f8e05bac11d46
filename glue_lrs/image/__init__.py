"""Spectral images and stacks of them."""
