"""ingest: a request becomes a pinned list of source files."""
