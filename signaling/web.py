"""The web app's files, and the headers that keep every answer safe in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from aiohttp import web

DIST: Final = Path(__file__).parents[1] / "web" / "app" / "dist"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_HOST: Final = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?")
_INLINE: Final = re.compile(rb"<(script|style)\b(?![^>]*\bsrc=)[^>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_NOT_BUILT: Final = """<!doctype html><meta charset="utf-8"><title>Turnpike</title>
<h1>Turnpike is running</h1>
<p>The web app has not been built. Run <code>make run</code>, or <code>npm ci && npm run build</code> in
<code>web/</code>, and load this page again. The API is at <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>.</p>
"""
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
}


def _policy(host: str, inline: dict[str, list[str]]) -> str:
    """The Content-Security-Policy: this origin only, its websocket, and the page's own inline parts by their hashes."""
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    script = " ".join(["script-src 'self'", *inline.get("script", [])])
    style = " ".join(["style-src 'self'", *inline.get("style", [])])
    return (
        f"default-src 'self'; {script}; {style}; style-src-attr 'unsafe-inline'; connect-src 'self'{sockets};"
        " img-src 'self' data: blob:; media-src 'self' blob: https:; worker-src 'self' blob:; font-src 'self' data:;"
        " object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _inline_hashes(page: bytes) -> dict[str, list[str]]:
    hashes: dict[str, list[str]] = {}
    for tag, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        hashes.setdefault(tag.decode().lower(), []).append(f"'sha256-{digest}'")
    return hashes


class WebApp:
    """Serves the built app; every path that is no file is the app's page, which does its own routing."""

    def __init__(self, dist: Path = DIST) -> None:
        self._dist = dist.resolve()

    async def page(self, request: web.Request) -> web.StreamResponse:
        """GET /{anything}"""
        path = request.match_info.get("path", "")
        if path.startswith(("api/", "socket.io/")):
            raise web.HTTPNotFound
        file = self._file(path)
        if file is not None:
            hashed = path.startswith("assets/")
            return web.FileResponse(file, headers={"Cache-Control": _IMMUTABLE if hashed else "no-cache"})
        if "." in path.rsplit("/", 1)[-1]:
            raise web.HTTPNotFound
        return self._index(request)

    def _file(self, path: str) -> Path | None:
        if not path or "\0" in path or path == "index.html":
            return None
        file = (self._dist / path).resolve()
        return file if file.is_relative_to(self._dist) and file.is_file() else None

    def _index(self, request: web.Request) -> web.Response:
        try:
            page, status = (self._dist / "index.html").read_bytes(), 200
        except OSError:
            page, status = _NOT_BUILT.encode(), 503
        policy = _policy(request.headers.get("Host", ""), _inline_hashes(page))
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy}
        return web.Response(body=page, status=status, content_type="text/html", charset="utf-8", headers=headers)


async def safe_headers(request: web.Request, response: web.StreamResponse) -> None:
    """An ``on_response_prepare`` signal: the headers of every answer."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    if request.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "no-store")
