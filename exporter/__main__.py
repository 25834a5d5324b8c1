"""`python -m exporter` is the same command."""

import sys

from exporter.cli import main

sys.exit(main())
