"""DALI: the external source over the ring, its pipeline nodes, and the iterator."""
