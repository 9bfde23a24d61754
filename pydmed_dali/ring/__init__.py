"""The ring: the memory in which chunks stay resident."""
