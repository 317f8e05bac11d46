"""The glue desktop: viewers, panel and tab in Qt; importing it imports nothing else."""
