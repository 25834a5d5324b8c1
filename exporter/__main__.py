"""`python -m exporter` is the same command."""

import sys

from exporter.cli.main import main

sys.exit(main())
