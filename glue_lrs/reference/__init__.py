"""EXTRACT1D reference files: schema, validation, overrides and export."""
