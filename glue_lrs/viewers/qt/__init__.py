"""The glue desktop in Qt: viewers, panel and tab. Importing this package alone imports nothing."""
