"""`python -m buildtool.daemon`."""

import sys

from buildtool.daemon.main import main

sys.exit(main())
