"""Draws the pixels of `slide.tissue_slides`: the modules' imports point from `image` to `noise`."""
