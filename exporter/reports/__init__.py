"""What is told besides HTTP: files and tables."""
