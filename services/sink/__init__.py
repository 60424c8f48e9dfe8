"""sink: brings versions to their destinations."""
