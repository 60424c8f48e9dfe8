"""The catalog over HTTP: one file per resource."""
