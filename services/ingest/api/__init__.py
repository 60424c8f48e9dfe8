"""The HTTP surface of ingest: /v1/datasets, /v1/runs, /v1/uploads."""
