"""Live extraction: the state that the viewers show and edit, without a toolkit."""
