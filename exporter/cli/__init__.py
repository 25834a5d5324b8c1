"""What a user types: one module for each command, and the parser of their flags."""
