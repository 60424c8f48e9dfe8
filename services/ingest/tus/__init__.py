"""Uploads that can be resumed, as tus 1.0 wants them: https://tus.io/protocols/resumable-upload."""
