"""The synchronous client, made from `oneblock.aio`."""
