"""A look-alike of DigitalOcean's API on loopback, and the made-up fleet it serves in the demo."""
