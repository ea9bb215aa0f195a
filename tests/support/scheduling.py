"""How pytest-xdist divides the tests among its workers.

The tests of a file share module-scoped fixtures and stay on one worker. Some files belong together:

- those with tests in real time (a sound server, signals to processes): no two of them may run at once;
- those that use an expensive session-scoped fixture: each worker would make its own.

``--dist loadgroup`` would do, but with pytest 9.2 pytest-xdist 3.8 ignores its groups without a word: it appends them
to the names of tests, which can no longer be changed.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

#: What a file says that belongs to a group, and the group.
GROUPS = (
    (re.compile(r"pytest\.mark\.(audio_server|signals)\b"), "real_time"),
    (re.compile(r"\bseptr_(run|export)\b"), "septr_run"),
)


@functools.cache
def group_of(path: Path) -> str | None:
    """The group that a file of tests belongs to, None for a file on its own."""
    text = path.read_text(encoding="utf-8")
    return next((name for pattern, name in GROUPS if pattern.search(text)), None)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Groups as above; with ``-m slow`` every other test by itself, for it takes longer than its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if group := group_of(self.config.rootpath / file):
            return group
        return nodeid if self.config.getoption("markexpr") == "slow" else file
