"""Loading: worker processes that fill the ring's slots, and the parent that directs them."""
