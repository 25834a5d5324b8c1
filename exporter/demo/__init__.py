"""The demo: DigitalOcean's API on loopback, and the made-up fleet that it serves."""
