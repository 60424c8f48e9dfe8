"""transform: an inventory of source files becomes a committed version of a dataset."""
