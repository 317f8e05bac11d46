"""Live extraction: the state behind the viewers, without a canvas."""
