"""Plots and region editors on Matplotlib axes. They do not depend on a GUI toolkit."""
