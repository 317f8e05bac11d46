"""LRS images and spectra as glue datasets: coordinates, file loaders and translators."""
