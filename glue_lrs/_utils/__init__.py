"""Utilities without astronomy."""
