"""Timing: what reading and cropping cost here, what follows from it, and what others reach."""
