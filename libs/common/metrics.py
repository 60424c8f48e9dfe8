"""Prometheus metrics: every name that we expose, a line each."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

RUNS = Counter("oneblock_runs", "Runs that reached a state, as seen here", ["state"])
STAGE = Histogram("oneblock_stage_seconds", "Time in a handler", ["stage"], buckets=SECONDS)
ROWS = Counter("oneblock_rows", "Rows processed", ["stage"])
BYTES = Counter("oneblock_bytes", "Bytes processed", ["stage"])
FILES = Counter("oneblock_files", "Files processed", ["stage"])
MESSAGES = Counter("oneblock_messages", "Messages handled", ["durable", "outcome"])
REDELIVERIES = Counter("oneblock_redeliveries", "Messages taken again", ["durable"])
DEAD_LETTERS = Counter("oneblock_dead_letters", "Messages given up", ["durable", "code"])
PUBLISHED = Counter("oneblock_published", "Facts acknowledged by JetStream", ["type"])
LAG = Gauge("oneblock_consumer_lag", "Messages not yet taken", ["durable"])
ACK_PENDING = Gauge("oneblock_consumer_ack_pending", "Messages taken, not settled", ["durable"])
RECONNECTS = Counter("oneblock_bus_reconnects", "Times the connection to NATS came back")
CONNECTED = Gauge("oneblock_bus_connected", "1 while connected to NATS")
HTTP_REQUESTS = Counter("oneblock_http_requests", "Requests", ["method", "route", "status"])
HTTP_SECONDS = Histogram("oneblock_http_seconds", "Until an answer was complete", ["route"])
