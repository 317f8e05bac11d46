"""Spatial profiles of a point source."""
