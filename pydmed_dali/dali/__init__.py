"""DALI: the external source over the ring, its pipeline nodes, and the iterator."""

import os

# Batches below 32 MiB come from malloc otherwise, which gives their pages back to the system after
# each: docs/decisions/0011. DALI reads this when it first takes memory.
os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", "1M")
