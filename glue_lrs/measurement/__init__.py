"""Measurement of the sources in an image."""
