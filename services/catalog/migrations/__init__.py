"""Alembic's scripts; `services.catalog.store.schema` runs them."""
