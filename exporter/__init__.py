"""A Prometheus exporter for the backups of DigitalOcean Droplets."""

NAME = "digitalocean-backup-exporter"
"""The name of the distribution and of its command."""

__version__ = "0.1.0"
