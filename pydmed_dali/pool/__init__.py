"""The parent's side of the workers: processes, schedule, statistics, and files beside slides."""
