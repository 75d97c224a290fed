"""What `qsub`, `qstat` and `qdel` of the stand-in are: a script that asks the stand-in's server and
prints what it says.

Runs without site packages; the first line and SOCKET are filled in by pbs_replay.
"""

import json
import os
import socket
import sys

SOCKET = ""


def main() -> int:
    """Ask, print, and end with the code that was told."""
    command = os.path.basename(sys.argv[0])
    asked = {
        "command": command,
        "argv": sys.argv[1:],
        "uid": os.getuid(),
        "stdin": sys.stdin.read() if command == "qsub" else "",
        "environment": dict(os.environ),
        "cwd": os.getcwd(),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(SOCKET)
        except OSError:
            sys.stderr.write(
                f"Connection refused\n{command}: cannot connect to server pbs-hos (errno=15010)\n"
            )
            return 255
        connection.sendall(json.dumps(asked).encode() + b"\n")
        with connection.makefile("rb") as stream:
            line = stream.readline()
    if not line:
        return 255
    code, out, err = json.loads(line)
    sys.stdout.buffer.write(out.encode(errors="surrogateescape"))
    sys.stderr.write(err)
    return int(code)


sys.exit(main())
