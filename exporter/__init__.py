"""A Prometheus exporter for the backups of DigitalOcean Droplets."""

NAME = "digitalocean-backup-exporter"
"""Of the distribution and its command."""

__version__ = "0.1.0"
