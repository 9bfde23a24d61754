"""Pictures of slides with what a source would draw from them, made without running one."""
