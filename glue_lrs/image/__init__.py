"""Spectral images and stacks of integrations."""
