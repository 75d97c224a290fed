"""A Hadoop for a look by hand: `python -m tests.parts.yarn`; it ends with its standard input."""

from __future__ import annotations

import contextlib
import sys

from tests.parts.yarn import running

with running() as hadoop, contextlib.suppress(KeyboardInterrupt):
    print(hadoop.directory, hadoop.rm_url, hadoop.nm_url, hadoop.hdfs_url, flush=True)
    sys.stdin.read()
