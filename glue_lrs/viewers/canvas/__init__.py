"""Matplotlib canvases of the viewers, without a GUI toolkit."""
