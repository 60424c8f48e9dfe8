"""The catalog: hears every fact, knows what exists and in which state, and serves the rows."""
