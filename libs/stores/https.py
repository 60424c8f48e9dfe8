"""https:// is http:// with TLS."""

from __future__ import annotations

from libs.stores.http import HttpStore

PLUGIN = HttpStore
