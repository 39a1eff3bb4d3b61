"""The member's own work on the event loop: proposing, reading, leases, compaction, quota."""
