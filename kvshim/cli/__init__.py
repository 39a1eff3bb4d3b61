"""The `kvshim` command: reads the settings, starts the node, talks to people."""
