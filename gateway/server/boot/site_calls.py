"""Calls of what a site wrote into its configuration: sync or async, beside the event loop, with a
deadline; what they say is told from what they do wrong."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from gateway.server.core.options import Refused

AT_A_TIME = 8  # threads that a site's code may hold; one that never returns keeps its own
SAID = (ValueError, RuntimeError, PermissionError, Exception)  # as such, no class below them
_RAISE = dis.opmap["RAISE_VARARGS"]
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    weakref.WeakKeyDictionary()
)


class TooLate(Exception):
    """A site's function did not answer before its deadline."""


class Ended(Exception):
    """A site's function wants the whole process to end."""


async def call(function: Callable[..., Any], *arguments: object, deadline_s: float) -> Any:
    """Return what a site's function returns. TooLate after the deadline; whatever it raises.

    A sync one runs in a thread of its own, which nothing waits for at the end: it may never return.
    """
    try:
        async with asyncio.timeout(deadline_s) as deadline:
            found = (
                function(*arguments)
                if inspect.iscoroutinefunction(function)
                else await _in_thread(function, arguments)
            )
            return await _awaited(found) if inspect.isawaitable(found) else found
    except TimeoutError:
        if deadline.expired():
            raise TooLate from None
        raise  # the function's own, such as of a connection


async def _awaited(found: Awaitable[Any]) -> Any:
    """Return what is awaited, in the task that waits: its cancellation reaches the function."""
    try:
        return await found
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as raised:
        raise Ended(f"it raised {type(raised).__name__}: {raised}") from None


async def _in_thread(function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
    loop = asyncio.get_running_loop()
    turns = _turns.setdefault(loop, asyncio.Semaphore(AT_A_TIME))
    await turns.acquire()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        turns.release()
        if answer.cancelled():
            return
        if isinstance(error, StopIteration):  # a future takes none
            error = RuntimeError("the callable raised StopIteration")
        answer.set_exception(error) if error is not None else answer.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
        except BaseException as raised:  # sys.exit() means this process, which is not the site's
            error = Ended(f"it raised {type(raised).__name__}: {raised}")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="site-call", daemon=True).start()
    return await answer


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments; yes, where that cannot be told."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin that tells no signature
        return True
    return True


def wants_user(function: Callable[..., Any]) -> bool:
    """Whether a function of the values of options wants the user, too: its second argument has no
    default, or is called `user` or `principal`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    placed = [
        one
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)
    ]
    if placed and placed[0].kind is placed[0].VAR_POSITIONAL:
        return True
    if len(placed) < 2:
        return False
    second = placed[1]
    return (
        second.kind is second.VAR_POSITIONAL
        or second.default is second.empty
        or second.name in ("user", "principal")
    )


def said(error: BaseException) -> str:
    """Return what a site's function says by an exception to its user; an empty text where it did
    something wrong.

    It speaks by Refused, and by a plain ValueError, RuntimeError, PermissionError or Exception that
    a `raise` statement raised: `int("x")` raises a ValueError, too, and means nobody.
    """
    words = " ".join(str(error).split())
    if isinstance(error, Refused):
        return words or "the site's rules refuse it"
    plain = type(error) in SAID and getattr(error, "errno", None) is None
    return words if plain and _raised_by_word(error.__traceback__) else ""


def _raised_by_word(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    code = traceback.tb_frame.f_code.co_code
    return code[traceback.tb_lasti] == _RAISE
