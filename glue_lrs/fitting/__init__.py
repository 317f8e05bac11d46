"""Fits of sources, spatial profile and background to the rows of an image."""
