"""Viewers in Jupyter notebooks. They need glue-jupyter."""
