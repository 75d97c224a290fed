"""Browsers sign in at an OpenID provider's page: there and back, to a dashboard, and out. And what
somebody tries who wants to be let in as another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from http.cookies import Morsel
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import aiohttp
import pytest
from yarl import URL

from gateway import Gateway, GatewayCluster
from gateway.client.calls.errors import PermissionDenied
from tests.e2e.gateway_process import PASSWORD, USER, GatewayProcess
from tests.parts.jupyterhub import Wire
from tests.parts.oidc_provider import (
    AUDIENCE,
    OpenIDProvider,
    person,
    started_provider,
    walk,
    wired,
)

__all__ = ["started_provider"]
CLIENT, SECRET = "gateway-login", "a secret of the gateway's own"
PUBLIC = "dask.example.org"  # where it is reached over https as well
LOGIN_COOKIE, BEGUN_COOKIE = "daskgateway_login", "daskgateway_begun"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, started_provider: OpenIDProvider
) -> Iterator[GatewayProcess]:
    """A gateway with two ways for browsers, and passwords of the same people."""
    made = GatewayProcess(
        tmp_path_factory.mktemp("gateway"),
        "c.DaskGateway.authenticators = ['oidc', 'password']",
        "c.DaskGateway.same_people = True",
        f"c.OIDCAuthenticator.issuer = {started_provider.issuer!r}",
        f"c.OIDCAuthenticator.audience = {AUDIENCE!r}",
        f"c.OIDCAuthenticator.client_id = {CLIENT!r}",
        f"c.OIDCAuthenticator.client_secret = {SECRET!r}",
        "c.OIDCAuthenticator.scopes = ['openid']",
        f"c.Proxy.allowed_origins = ['https://{PUBLIC}']",
    )
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
async def to_provider(started_provider: OpenIDProvider) -> AsyncIterator[Wire]:
    """What carries the provider's answers."""
    async with wired(started_provider) as made:
        yield made


@pytest.fixture
async def provider(
    started_provider: OpenIDProvider, gateway: GatewayProcess, to_provider: Wire
) -> OpenIDProvider:
    """The provider, which knows the gateway and two people."""
    await started_provider.order(
        "client",
        client_id=CLIENT,
        client_secret=SECRET,
        grant_types=["authorization_code"],
        response_types=["code"],
        redirect_uris=[f"{gateway.address}/login/oidc/callback"],
    )
    for user in (USER, "mallory"):
        await started_provider.order("people", user=user, groups=[])
    return started_provider


async def begun(session: aiohttp.ClientSession, address: str, query: str = "") -> str:
    """Begin a login; return where the browser is sent."""
    async with session.get(f"{address}/login/oidc/begin{query}", allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        return answer.headers["Location"]


async def came_back(
    session: aiohttp.ClientSession, address: str, user: str, query: str = ""
) -> str:
    """Return the address that a browser comes back to, which is not visited yet."""
    where = await begun(session, address, query)
    return await walk(session, where, user, (f"{address}/login/oidc/callback",))


async def visited(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, str, str]:
    """Visit a page, redirects and all; return status, text and address."""
    async with session.get(URL(url, encoded=True), headers=headers) as answer:
        return answer.status, await answer.text(), str(answer.url)


async def signed_in(session: aiohttp.ClientSession, address: str, user: str) -> None:
    """Sign somebody in."""
    status, text, _ = await visited(session, await came_back(session, address, user))
    assert (status, f"signed in as <b>{user}</b>" in text) == (200, True), text


def cookie(session: aiohttp.ClientSession, name: str) -> Morsel[str] | None:
    """Return a cookie that a browser keeps."""
    return next((one for one in session.cookie_jar if one.key == name), None)


async def test_from_a_dashboard_to_the_provider_and_back_and_out_everywhere(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    there = await asyncio.to_thread(
        lambda: GatewayCluster("seen", gateway=Gateway(gateway.address, auth=(USER, PASSWORD)))
    )
    try:
        link = there.dashboard_link
        assert link is not None
        async with person() as browser, person() as stranger:
            # the page of a dashboard tells the way
            status, text, _ = await visited(browser, link, Accept="text/html")
            assert status == 401
            found = re.search(r'href="([^"]*/login[?]next=[^"]*)"', text)
            assert found is not None, text
            status, text, _ = await visited(browser, urljoin(link, found[1]))
            begin = re.search(r'href="([^"]*/login/oidc/begin[^"]*)"', text)
            assert begin is not None, text
            query = "?" + urlsplit(begin[1].replace("&amp;", "&")).query
            back = await came_back(browser, gateway.address, USER, query)
            status, text, where = await visited(browser, back)
            assert (status, where) == (200, link), text
            assert "bokeh" in text.lower()
            kept = cookie(browser, LOGIN_COOKIE)
            assert kept is not None
            assert (kept["path"], kept["httponly"], kept["samesite"]) == ("/login", True, "Lax")
            assert cookie(browser, BEGUN_COOKIE) is None
            # somebody else's dashboard is none
            await signed_in(stranger, gateway.address, "mallory")
            path = urlsplit(link).path
            status, text, _ = await visited(stranger, f"{gateway.address}/login?next={path}")
            assert status == 404, text
            # the session is seen with the tokens, and out is out everywhere
            mine = Gateway(gateway.address, auth=(USER, PASSWORD))
            tokens = await asyncio.to_thread(mine.list_tokens)
            assert [one.way for one in tokens if one.display_name == "a browser"] == ["oidc"]
            async with browser.post(f"{gateway.address}/login/out?everywhere=1") as answer:
                assert "logged out" in await answer.text()
            tokens = await asyncio.to_thread(mine.list_tokens)
            assert "a browser" not in [one.display_name for one in tokens]

            async def closed() -> bool:
                return (await visited(browser, link, Accept="text/html"))[0] == 401

            async with asyncio.timeout(60):
                while not await closed():  # noqa: ASYNC110 (the edge asks now and then)
                    await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(there.close)


async def test_who_is_signed_in_stays_so_while_the_provider_is_away(
    gateway: GatewayProcess, provider: OpenIDProvider, to_provider: Wire
) -> None:
    async with person() as browser:
        await signed_in(browser, gateway.address, USER)
        async with to_provider.cut():
            status, text, _ = await visited(browser, f"{gateway.address}/login")
            assert (status, f"signed in as <b>{USER}</b>" in text) == (200, True), text
        status, text, _ = await visited(browser, f"{gateway.address}/login")
        assert (status, f"signed in as <b>{USER}</b>" in text) == (200, True), text


async def test_an_answer_opens_nothing_in_another_browser_nor_twice(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    async with person() as mallory, person() as victim:
        back = await came_back(mallory, gateway.address, "mallory")
        # a link that signs the victim in as somebody else, or a code that was stolen on its way
        status, text, _ = await visited(victim, back)
        assert status == 403
        assert "not begun in this browser" in text
        # neither where the victim has begun a login of their own
        await begun(victim, gateway.address)
        status, text, _ = await visited(victim, back)
        assert status == 403
        assert cookie(victim, LOGIN_COOKIE) is None
        status, text, _ = await visited(mallory, back)
        assert status == 200
        assert cookie(mallory, LOGIN_COOKIE) is not None
        status, text, _ = await visited(mallory, back)
        assert status == 403


async def test_an_answer_that_was_changed_or_is_anothers_opens_nothing(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    async with person() as browser:
        back = urlsplit(await came_back(browser, gateway.address, USER))
        right = dict(parse_qsl(back.query))
        sealed = cookie(browser, BEGUN_COOKIE)
        assert sealed is not None
        base = f"{gateway.address}/login/oidc/callback"
        wrong: list[tuple[str, str]] = [
            (urlencode({**right, "state": "another"}), "not begun in this browser"),
            (urlencode({**right, "iss": "https://evil.example.org"}), "not that of the identity"),
            (urlencode({one: right[one] for one in right if one != "iss"}), "not that of"),
            (urlencode({**right, "code": "x" * 40}), "does not take the code"),
            (
                urlencode({"error": "access_denied", **{k: right[k] for k in ("state", "iss")}}),
                "refused",
            ),
            (f"{urlencode(right)}&code=two", "not begun in this browser"),
            ("", "not begun in this browser"),
            ("&".join(f"a{n}=1" for n in range(40)), "not begun in this browser"),
        ]
        for query, words in wrong:
            # as each answer is the last of its login, the browser is given the cookie again
            headers = {"Cookie": f"{BEGUN_COOKIE}={sealed.value}"}
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as one:
                async with one.get(
                    URL(f"{base}?{query}", encoded=True), headers=headers, allow_redirects=False
                ) as answer:
                    text = await answer.text()
                    assert answer.status == 403, (query, text)
                    assert words in text, (query, text)
                    assert LOGIN_COOKIE not in answer.cookies
        # of another way
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as one:
            url = f"{gateway.address}/login/password/callback?{urlencode(right)}"
            headers = {"Cookie": f"{BEGUN_COOKIE}={sealed.value}"}
            async with one.get(url, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 403
        for value in ("", "x", sealed.value[:-8], "A" * 5000):
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as one:
                headers = {"Cookie": f"{BEGUN_COOKIE}={value}"}
                async with one.get(
                    f"{base}?{urlencode(right)}", headers=headers, allow_redirects=False
                ) as answer:
                    assert answer.status in (400, 403, 431)


async def test_nobody_is_led_to_another_site(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    evil = (
        "https://evil.example.org",
        "//evil.example.org",
        "/\\evil.example.org",
        "/clusters/../../evil",
        "/clusters/caaaaaaaaaaaaaaaaaaaa/..//evil.example.org",
        "/clusters/caaaaaaaaaaaaaaaaaaaa//evil.example.org",
        "javascript:alert(1)",
        "/clusters/caaaaaaaaaaaaaaaaaaaa/%2e%2e/x\r\nSet-Cookie: a=b",
    )
    async with person() as browser:
        for place in evil:
            query = "?" + urlencode({"next": place})
            back = await came_back(browser, gateway.address, USER, query)
            async with browser.get(URL(back, encoded=True), allow_redirects=False) as answer:
                assert answer.status == 303
                assert answer.headers["Location"] == "/login"
            async with browser.get(
                f"{gateway.address}/login{query}", allow_redirects=False
            ) as answer:
                assert answer.status == 200
                assert "evil" not in await answer.text()


async def test_scripts_of_the_same_origin_and_other_sites_get_nothing_by_the_cookie(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    async with person() as browser:
        await signed_in(browser, gateway.address, USER)
        for told in (
            {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
            {"Sec-Purpose": "prefetch"},
        ):
            for path in ("/login", "/login/oidc/begin"):
                status, text, _ = await visited(browser, f"{gateway.address}{path}", **told)
                assert status == 403, (told, text)
        other = {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"}
        async with browser.post(f"{gateway.address}/login/out", headers=other) as answer:
            assert answer.status == 403
        status, text, _ = await visited(browser, f"{gateway.address}/login")
        assert "signed in as" in text
        # a session's cookie that somebody else has set is another's, and what is none is none
        for value in ("dgw_session_" + "A" * 16 + "_" + "B" * 43, "x", "", "dgw_api_x"):
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as one:
                headers = {"Cookie": f"{LOGIN_COOKIE}={value}"}
                async with one.get(f"{gateway.address}/login", headers=headers) as answer:
                    assert answer.status == 200
                    assert "Sign in by oidc" in await answer.text()


async def test_a_login_makes_a_session_of_its_own_with_few_rights(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    async with person() as browser:
        await signed_in(browser, gateway.address, USER)
        first = cookie(browser, LOGIN_COOKIE)
        assert first is not None
        before = first.value
        await signed_in(browser, gateway.address, USER)
        second = cookie(browser, LOGIN_COOKIE)
        assert second is not None
        assert second.value != before  # nobody who knew the first knows this one
        call = f"{gateway.address}/daskgateway.v1."
        headers = {"Authorization": f"Bearer {second.value}"}
        async with aiohttp.ClientSession(headers=headers) as one:
            shown = Gateway(gateway.address, auth=second.value)
            with pytest.raises(PermissionDenied):
                await asyncio.to_thread(lambda: GatewayCluster(gateway=shown))
            async with one.post(f"{call}CredentialService/CreateToken", json={}) as answer:
                assert answer.status == 403
            async with one.post(f"{call}CredentialService/WhoAmI", json={}) as answer:
                told = await answer.json()
                assert (told["user"], told["scopes"]) == (USER, ["SCOPE_CLUSTERS_READ"])


async def test_over_https_cookies_are_for_https_alone_and_plain_ones_count_for_nothing(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    """Whoever can set a cookie in clear text signs nobody in as somebody else."""
    host = {"Host": PUBLIC}
    async with person() as browser:
        await signed_in(browser, gateway.address, USER)
        kept = cookie(browser, LOGIN_COOKIE)
        assert kept is not None
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as one:
        url = f"{gateway.address}/login/oidc/begin?there=1"
        async with one.get(url, headers=host, allow_redirects=False) as answer:
            assert answer.status == 303
            (told,) = answer.headers.getall("Set-Cookie")
        assert told.startswith(f"__Secure-{BEGUN_COOKIE}=")
        wanted = {"Secure", "HttpOnly", "SameSite=Lax", "Path=/login/oidc", "Max-Age=600"}
        assert wanted <= set(told.split("; "))
        for name, known in ((LOGIN_COOKIE, False), (f"__Secure-{LOGIN_COOKIE}", True)):
            shown = host | {"Cookie": f"{name}={kept.value}"}
            async with one.get(f"{gateway.address}/login", headers=shown) as answer:
                assert (f"signed in as <b>{USER}</b>" in await answer.text()) is known, name
        # neither the other way round
        shown = {"Cookie": f"__Secure-{LOGIN_COOKIE}={kept.value}"}
        async with one.get(f"{gateway.address}/login", headers=shown) as answer:
            assert "signed in as" not in await answer.text()


async def test_out_everywhere_is_out_in_other_browsers_too_and_out_is_not(
    gateway: GatewayProcess, provider: OpenIDProvider
) -> None:
    async with person() as one, person() as other, person() as third, person() as mallory:
        for browser in (one, other, third):
            await signed_in(browser, gateway.address, USER)
        await signed_in(mallory, gateway.address, "mallory")

        async def known(browser: aiohttp.ClientSession) -> bool:
            return "signed in as" in (await visited(browser, f"{gateway.address}/login"))[1]

        async with one.post(f"{gateway.address}/login/out") as answer:
            assert "logged out" in await answer.text()
        assert [await known(browser) for browser in (one, other, third)] == [False, True, True]
        async with other.post(f"{gateway.address}/login/out?everywhere=1") as answer:
            assert "logged out" in await answer.text()
        assert [await known(browser) for browser in (one, other, third)] == [False, False, False]
        assert await known(mallory)


async def test_begun_logins_cost_no_memory_and_the_provider_away_is_said(
    gateway: GatewayProcess, started_provider: OpenIDProvider, provider: OpenIDProvider
) -> None:
    async with person() as browser:
        for _ in range(60):
            where = await begun(browser, gateway.address)
            assert where.startswith(started_provider.issuer)
            asked = parse_qs(urlsplit(where).query)
            assert asked["code_challenge_method"] == ["S256"]
            assert asked["nonce"]
            assert asked["state"]
        back = await came_back(browser, gateway.address, USER)
        sealed = cookie(browser, BEGUN_COOKIE)
        assert sealed is not None
        assert "verifier" not in sealed.value
        await visited(browser, back)
    async with person() as browser:
        async with browser.get(f"{gateway.address}/login/nothing/begin") as answer:
            assert answer.status == 404
            assert "no such way" in await answer.text()
