"""A command in somebody's terminal that shows a code, which is entered in a browser elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

CODE_S, END_S = 120.0, 240.0


async def ran(
    words: Sequence[str],
    environment: Mapping[str, str],
    enter: Callable[[str], Awaitable[object]] | None = None,
) -> tuple[int | None, str, str]:
    """Run a command; return how it ended, and what it said on either stream. `enter` is given the
    address that it shows beside its code. It lives no longer than this."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        said = ""
        if enter is not None:
            assert process.stderr is not None
            async with asyncio.timeout(CODE_S):
                while (found := re.search(r"or open (\S+)", said)) is None:
                    said += (line := (await process.stderr.readline()).decode())
                    assert line, said
            await enter(found[1])
        out, error = await asyncio.wait_for(process.communicate(), END_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), said + error.decode()
