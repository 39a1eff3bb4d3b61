"""The command line, environment and config file, told as stories."""
