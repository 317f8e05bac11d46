"""Simulated LRS products with known truth."""
