"""Mutation harness: files broken at random, read as a user would read them, with outcomes counted.

``python -m tests.mutations 10000`` (or ``.ci/mutate``) prints the number of each outcome.
"""
