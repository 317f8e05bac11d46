"""The JWST pipeline itself, as the judge of the numbers."""
