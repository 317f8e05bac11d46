"""Live extraction: the state that the viewers show and edit, independent of a GUI toolkit."""
