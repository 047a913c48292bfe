"""The limit on open files, which the processes of a pipeline inherit.

The embedded database alone had 1,170 open in a demo of 20 minutes, three of them for each of its
threads, while most shells allow a process 1,024.
"""

import resource

from schemas.errors import ConfigError

OPEN_FILES = 10_240
"""As many as macOS lets any process have."""
OPEN_FILES_MIN = 4_096


def allow_open_files() -> None:
    """Raises this process's own limit, as far as its user may.

    Raises:
        ConfigError: that is not far enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if most < OPEN_FILES_MIN:
        raise ConfigError(
            [
                f"a process may open {most} files here, and the database needs {OPEN_FILES_MIN}:"
                f" 'ulimit -n {OPEN_FILES_MIN}' allows more, or LimitNOFILE in systemd"
            ]
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
