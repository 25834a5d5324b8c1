"""The HTTP server: metrics, health, reload and the status page."""
