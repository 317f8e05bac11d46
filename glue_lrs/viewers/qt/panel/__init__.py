"""The extraction panel: settings and results of a live extraction."""
