"""The domain: what is known of an account's Droplets and their backups. No I/O and no clock; `now` is a parameter."""
