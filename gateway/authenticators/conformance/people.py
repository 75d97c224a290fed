"""Tests of what becomes of users: they come, get other rights and other secrets, and go; what was
known of them before holds for a minute at most."""

from __future__ import annotations

import time

from gateway.authenticators.conformance.source import ALICE, BOB, CAROL, NOBODY, Source
from gateway.authenticators.contract import IdentityNotTold

# names that mean something to a directory, a shell or a file system, and name nobody
STRANGE = (
    "*",
    "",
    "alice*",
    "alice)(uid=*",
    "alice' OR '1'='1",
    "../alice",
    "alice\0",
    "alice\n",
    " alice",
    "a" * 5000,
    "é\udcff",
)
ENDS_WITHIN_MS = 1000  # of the instant that the source names


class People:
    """`identity`, and what sign-ins tell after a change."""

    async def test_it_can_be_asked_by_name_or_says_that_it_cannot(self, source: Source) -> None:
        assert source.authenticator.askable == source.asked_by_name, (
            "askable says whether `identity` knows users, and so does Source.asked_by_name"
        )
        if not source.asked_by_name:
            assert not await self._asked(source, ALICE), "it is told by name, and said not to be"
            return
        for user in (ALICE, BOB):
            assert await self._asked(source, user), f"of {user} nothing is told by name"

    async def _asked(self, source: Source, user: str) -> bool:
        """Whether somebody is told of by name."""
        try:
            return await source.done(source.authenticator.identity(user), "identity") is not None
        except IdentityNotTold:
            return False

    async def test_by_name_the_same_is_told_as_at_the_sign_in(self, source: Source) -> None:
        for user in (ALICE, BOB):
            told, signed_in = await source.identity(user), await source.right(user)
            assert told is not None, f"{user} signs in, and is said not to exist"
            assert (told.admin, told.groups, told.scopes) == (
                signed_in.admin,
                signed_in.groups,
                signed_in.scopes,
            ), f"of {user} other rights are told by name than at the sign-in"
            assert told.stamp == signed_in.stamp, "the stamps differ: every session would end"

    async def test_of_an_unknown_name_nobody_is_told(self, source: Source) -> None:
        for user in (NOBODY, *STRANGE):
            told = await source.identity(user)
            assert told is None, f"{user[:40]!r} is taken for {told.user!r}"

    async def test_a_user_who_comes_is_known(self, source: Source) -> None:
        if source.asked_by_name:
            assert await source.identity(CAROL) is None
        if source.names:
            await source.refused(await source.wrong(CAROL), "who has not come yet")
        await source.add(CAROL, admin=False, groups=("chemistry",))

        async def comes() -> bool:
            told = await source.sign_in(await source.show(CAROL))
            return told is not None and told.groups == ("chemistry",)

        await source.until(comes, f"{CAROL} has come and is not let in")
        if source.asked_by_name:

            async def known() -> bool:
                return await source.identity(CAROL) is not None

            await source.until(known, f"{CAROL} has come and is not known by name")

    async def test_a_user_who_goes_is_nobody(self, source: Source) -> None:
        remove = source.given("remove", source.remove)
        right = await source.show(ALICE)
        await source.right(ALICE)
        await remove(ALICE)

        async def gone() -> bool:
            if await source.sign_in(right) is not None:
                return False
            return not source.asked_by_name or await source.identity(ALICE) is None

        await source.until(gone, f"{ALICE} was removed and is still somebody")
        await source.right(BOB)

    async def test_groups_are_asked_anew(self, source: Source) -> None:
        change = source.given("change", source.change)
        await self._known(source, ALICE)
        await change(ALICE, admin=False, groups=("chemistry", "physics"))
        await self._told(source, ALICE, False, {"chemistry", "physics"})
        await change(ALICE, admin=False, groups=())
        await self._told(source, ALICE, False, set())

    async def test_an_admin_who_is_none_any_more_is_none(self, source: Source) -> None:
        change = source.given("change", source.change)
        await self._known(source, BOB)
        await change(BOB, admin=False, groups=())
        await self._told(source, BOB, False, set())

    async def test_a_user_who_becomes_an_admin_is_one(self, source: Source) -> None:
        change = source.given("change", source.change)
        await self._known(source, ALICE)
        await change(ALICE, admin=True, groups=("physics",))
        await self._told(source, ALICE, True, {"physics"})

    async def _known(self, source: Source, user: str) -> None:
        """Have it tell of a user, so that whatever it keeps is kept."""
        await source.right(user)
        if source.asked_by_name:
            await source.identity(user)

    async def _told(self, source: Source, user: str, admin: bool, groups: set[str]) -> None:
        """Wait until sign-in and identity tell what the source has."""

        async def told() -> bool:
            found = [await source.right(user)]
            if source.asked_by_name:
                known = await source.identity(user)
                assert known is not None, f"{user} is said not to exist"
                found.append(known)
            return all((one.admin, set(one.groups)) == (admin, groups) for one in found)

        await source.until(told, f"{user}: admin and groups are those of before")

    async def test_after_a_change_of_secret_the_old_one_proves_nothing(
        self, source: Source
    ) -> None:
        renew = source.given("renew", source.renew)
        old = await source.show(ALICE)
        await source.right(ALICE)
        await renew(ALICE)

        async def taken_back() -> bool:
            return await source.sign_in(old) is None

        await source.until(taken_back, "the old secret still lets in")
        await source.right(ALICE)

    async def test_the_stamp_changes_with_the_secret_and_with_nothing_else(
        self, source: Source
    ) -> None:
        source.need("stamps")
        renew = source.given("renew", source.renew)
        before, other = await source.right(ALICE), await source.right(BOB)
        assert before.stamp, "a secret that can change has no stamp"
        assert (await source.right(ALICE)).stamp == before.stamp, "it changes with each sign-in"
        await renew(ALICE)

        async def changed() -> bool:
            told = [await source.right(ALICE)]
            if source.asked_by_name and (known := await source.identity(ALICE)) is not None:
                told.append(known)
            return all(one.stamp != before.stamp for one in told)

        await source.until(changed, "the stamp has not changed with the secret")
        assert (await source.right(BOB)).stamp == other.stamp, "it changes with others' secrets"

    async def test_another_server_tells_the_same(self, source: Source) -> None:
        another = await source.again()
        await source.done(another.open(), "open")
        try:
            for user in (ALICE, BOB):
                told = await source.sign_in(await source.show(user), another)
                assert told == await source.right(user), (
                    f"two servers tell different things of {user}: sessions would end at random"
                )
        finally:
            await source.done(another.close(), "close")

    async def test_what_has_expired_lets_nobody_in(self, source: Source) -> None:
        expired = source.given("expired", source.expired)
        await source.right(ALICE)
        await source.refused(await expired(ALICE), "with what has expired")
        await source.right(ALICE)

    async def test_what_was_used_once_is_not_good_twice(self, source: Source) -> None:
        replayed = source.given("replayed", source.replayed)
        await source.refused(await replayed(ALICE), "with what was used before")

    async def test_when_an_account_ends_is_told(self, source: Source) -> None:
        ending = source.given("ending", source.ending)
        credentials, ends_at = await ending(ALICE)
        assert ends_at > time.time() * 1000, "the Source's own account has ended already"
        told = [await source.sign_in(credentials)]
        if source.asked_by_name:
            told.append(await source.identity(ALICE))
        for one in told:
            assert one is not None, f"{ALICE} is nobody before the account ends"
            assert one.expires_at, "the account's end is not told: tokens would outlive it"
            assert abs(one.expires_at - ends_at) <= ENDS_WITHIN_MS, (
                f"the account ends at {ends_at}, and {one.expires_at} is told"
            )
