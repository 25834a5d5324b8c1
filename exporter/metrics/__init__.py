"""What Prometheus scrapes: the metric families, their text, and the exporter's own metrics."""
