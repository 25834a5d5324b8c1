"""`check-config`: reads configuration and secrets as `serve` does, and reports mistakes. It sends no request."""

from __future__ import annotations

from exporter.cli.options import CheckConfigOptions
from exporter.cli.source import load_configurations, open_to_everybody
from exporter.config.state_location import why_unwritable
from exporter.config.yaml_document import ConfigError
from exporter.console import print_error, print_result


def check_config(options: CheckConfigOptions) -> int:
    """Prints warnings and that the configuration is good, and returns 0. Raises `ConfigError` with all mistakes."""
    config, settings = load_configurations(options.source, options.web_config)
    for note in settings.notes:
        print_error(f"{options.web_config}: {note}")
    for warning in open_to_everybody(options.source, config, settings):
        print_error(f"warning: {warning}")
    if config is not None and config.state_file is not None:
        directory = config.state_file.parent
        problem = why_unwritable(directory)
        if problem is not None:
            raise ConfigError(
                f"state_file: no file can be written in the directory {directory}: {problem}; create it and let the "
                f"exporter's user write to it, or name another file; with null, nothing is kept ({options.source})"
            )
    names = ", ".join(account.name for account in config.accounts) if config else "demo"
    print_result(f"{options.source}: good; accounts: {names}\n")
    return 0
