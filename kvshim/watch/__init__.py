"""Watch: the event hub, the watchers' streams and their catch-up from history."""
