"""The worker process: what runs in it, and the messages that reach it and leave it."""
