"""The state machine's database: kvshim's only importer of apsw, and the home of all its SQL."""
