"""`check-config`: reads configuration and secrets as `serve` does. It contacts nobody."""

from __future__ import annotations

from exporter.cli.options import CheckConfigOptions
from exporter.cli.source import load_all
from exporter.console import print_error, print_result


def check_config(options: CheckConfigOptions) -> int:
    """Prints that the configuration is good and returns 0. Raises `ConfigError` with every mistake."""
    config, settings = load_all(options.source, options.web_config)
    for note in settings.notes:
        print_error(f"{options.web_config}: {note}")
    names = ", ".join(account.name for account in config.accounts) if config else "demo"
    print_result(f"{options.source}: good; accounts: {names}\n")
    return 0
