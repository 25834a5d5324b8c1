"""Lets `python -m exporter` run the command."""

import sys

from exporter.cli.main import main

sys.exit(main())
