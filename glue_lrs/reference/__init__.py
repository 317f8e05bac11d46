"""EXTRACT1D references: schema, validation, overrides and export."""
