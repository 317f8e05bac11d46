"""The extraction panel."""
