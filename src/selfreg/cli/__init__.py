"""The `selfreg` command: one file a command, each a thin layer over the stage of the same name."""
