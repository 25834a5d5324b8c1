"""`python -m exporter` is the same command."""

import sys

from exporter.cli.arguments import main

sys.exit(main())
