"""A Prometheus exporter for the backups of DigitalOcean Droplets."""

__version__ = "0.1.0"
