"""The plan: which chunk is number j and where its crop number c lies. Pure: no file, no clock."""
