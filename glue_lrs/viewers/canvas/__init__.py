"""Plots and editors drawn with Matplotlib, which do not depend on a GUI toolkit."""
