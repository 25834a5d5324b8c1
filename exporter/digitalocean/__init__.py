"""DigitalOcean's API: its endpoints, records and limits. It knows nothing of the rest of the exporter."""
