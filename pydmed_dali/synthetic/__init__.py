"""Slides made for tests and the demonstration: coordinate slides and synthetic tissue."""
