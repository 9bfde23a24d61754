"""Indexes: one module a container; each tells where a tile's bytes lie and how they are coded."""
