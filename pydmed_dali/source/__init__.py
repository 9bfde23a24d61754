"""Sources: options, engine, schedule, iterator and saved states; what users hold."""
