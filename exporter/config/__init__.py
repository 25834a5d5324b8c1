"""The configuration: YAML and environment, made into one frozen `Config`."""
