"""The asynchronous client; `oneblock.sync` is generated from it (`python -m libs.sdk.generate`)."""
