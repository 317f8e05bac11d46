"""The extraction operator and its extractors."""
