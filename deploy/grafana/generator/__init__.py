"""The Grafana dashboards of the exporter, as Python; `python -m deploy.grafana.generator` writes them as JSON."""
