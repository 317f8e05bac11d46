"""The `Extract1D` operator and the extractors that it runs."""
