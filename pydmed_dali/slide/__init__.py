"""Slides: what a reader offers, the readers, and slides made for tests and demonstrations."""
