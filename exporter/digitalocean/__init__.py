"""DigitalOcean's API as it is, knowing nothing of us: its endpoints, its records, its limits."""
