"""A WebSocket that carries a scheduler's TLS bytes, where only HTTP passes. Knows the bytes' way, not their meaning."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, web

from gateway.proxy.routes import RouteTable

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
HEARTBEAT_S = 30.0


class Tunnel:
    """Answers GET /tunnel/{uid}."""

    def __init__(self, routes: RouteTable, connect_timeout_s: float) -> None:
        self._routes, self._connect_timeout_s = routes, connect_timeout_s

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Carry a scheduler's TLS bytes in a WebSocket. No login: the TLS inside is mutual, from end to end."""
        route = self._routes.find(request.match_info["uid"])
        if route is None:
            return web.Response(status=404, text="no such cluster\n")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(*route.scheduler)
        except (OSError, TimeoutError):
            return web.Response(status=502, text="the scheduler is not reached\n")
        tunnel = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, heartbeat=HEARTBEAT_S)
        await tunnel.prepare(request)

        async def down() -> None:
            while piece := await reader.read(CHUNK_BYTES):
                await tunnel.send_bytes(piece)
            await tunnel.close()

        sending = asyncio.ensure_future(down())
        try:
            async for message in tunnel:
                if message.type is not WSMsgType.BINARY:
                    break
                writer.write(message.data)
                await writer.drain()
        except OSError:
            logger.debug("a tunnel broke")
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()
        return tunnel
