"""Codecs: coded bytes to pixels."""
