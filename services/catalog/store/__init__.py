"""The catalog's database: SQLite on one machine, Postgres for many."""
