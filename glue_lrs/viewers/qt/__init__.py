"""Viewers, extraction panel and tab for glue's Qt desktop. Only its modules import Qt."""
