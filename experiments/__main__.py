"""``python -m experiments`` is the command ``fedcl``."""

import sys

from experiments.cli import main

sys.exit(main())
