"""`python -m buildtool.registry.server`."""

import sys

from buildtool.registry.server.main import main

sys.exit(main())
