"""LRS images and spectra as glue datasets: components, coordinates, loaders, translators."""
