"""``python -m kiwoom_auth_plugin COMMAND``: the same as the console script ``kiwoom-auth``."""

import sys

from .cli import main

sys.exit(main())
