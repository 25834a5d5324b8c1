"""What the commands print and write: tables, JSON, and the file for node_exporter."""
