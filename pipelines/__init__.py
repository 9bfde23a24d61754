"""DALI pipelines ready to use, and to copy into a project of your own."""
