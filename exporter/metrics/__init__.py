"""What is told to Prometheus: the families, their text, and the exporter's own figures."""
