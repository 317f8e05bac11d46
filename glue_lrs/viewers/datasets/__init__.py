"""glue data: coordinates, datasets, translators and loaders."""
