"""The shell that a container runs, and what is sealed for it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from gateway.backends.contract import NAME, Launch
from gateway.backends.yarn import inside

LOG, EXIT, NAMED = "dask.log", "dask.exit", "dask.name"  # in the log directory of a container
INSIDE = ".daskgateway-inside.py"
PYTHON_VARIABLE, NAME_VARIABLE = "DASKGATEWAY_PYTHON", "DASKGATEWAY_NAME"
# The application lives until the gateway ends it, also when all of its containers have ended: while
# it does, its logs can be read. It is ended with the application master.
MASTER = "exec sleep infinity"

_SCRIPT = """set +ex
logs=${LOG_DIRS%%,*}
exec >"$logs/%LOG%" 2>&1
echo "$DASKGATEWAY_NAME" >"$logs/%NAMED%"
umask 077
%SETUP%
directory=$("$DASKGATEWAY_PYTHON" -I %INSIDE%)
code=$?
if [ $code = 0 ]; then
  trap 'rm -rf "$directory" %RUN%' EXIT
  trap : TERM INT
  bash %RUN%
  code=$?
fi
echo $code >"$logs/%EXIT%"
exit $code
"""


def container_script(setup: Sequence[str]) -> str:
    """Return what a container runs: its log is one file, its exit code another."""
    words = {
        "%INSIDE%": INSIDE,
        "%RUN%": inside.RUN_FILE,
        "%LOG%": LOG,
        "%EXIT%": EXIT,
        "%NAMED%": NAMED,
    }
    text = _SCRIPT
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text.replace("%SETUP%", "\n".join(setup))  # last: it may hold such words


def environment(key: bytes, launch: Launch) -> dict[str, str]:
    """Return the environment of a launch's container: the launch, sealed, and by what to open
    it."""
    argv = [launch.instance.name if word == NAME else word for word in launch.argv]
    sealed = inside.seal(
        key,
        {
            "argv": argv,
            "env": dict(launch.env),
            "files": {
                name: base64.b64encode(content).decode() for name, content in launch.files.items()
            },
        },
    )
    return sealed | {PYTHON_VARIABLE: python_of(argv), NAME_VARIABLE: launch.instance.name}


def python_of(argv: Sequence[str]) -> str:
    """Return the Python that opens a launch: its own, if it is one of Python."""
    name = argv[0].rpartition("/")[2]
    return argv[0] if name.startswith(("python", "pypy")) else "python3"
