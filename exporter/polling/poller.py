"""Polls one account in a loop: asks the API, learns, judges, and replaces the served Fleet."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from operator import attrgetter

import structlog
from msgspec import structs

from exporter.clock import Clock
from exporter.config.durations import duration_text
from exporter.config.model import Account, Config
from exporter.config.tokens import TokenError
from exporter.cooperative import with_pauses
from exporter.digitalocean.budget import Budget, Budgets
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import ApiError, NotFound, OutOfBudget, Throttled
from exporter.fleet.assemble import clock_ahead_of
from exporter.fleet.listings import AccountListings, learn
from exporter.fleet.model import Droplet, Fleet, SupportedPolicy
from exporter.fleet.schedule import HOUR
from exporter.fleet.tracked import TrackedDroplet
from exporter.log import without_request
from exporter.metrics.telemetry import AccountTelemetry
from exporter.polling.backup_reader import BackupReader, ReadResult
from exporter.polling.conversion import supported_policies_of
from exporter.polling.judged import JudgedDroplets
from exporter.polling.lister import Lister
from exporter.polling.notices import Notices
from exporter.polling.read_plan import (
    ReadPlan,
    ReadPolicy,
    Urgency,
    backups_an_hour,
    forecast_requests,
    pages_of,
    plan_of,
    reason_to_read,
)
from exporter.polling.state_file import AccountState, StateFile
from exporter.polling.status import PollResult, Status, in_words

JITTER = 2.0
"""Seconds within which the first polls of several accounts are spread."""
LOOKED_UP_AT_ONCE = 3
"""How many Droplets that a complete listing lacks are looked up in one poll. The others wait for the next poll."""


class Poller:
    """Polls one account until cancelled, one poll at a time. Each poll replaces `fleet` and `status` as a whole."""

    def __init__(
        self,
        account: Account,
        config: Config,
        telemetry: AccountTelemetry,
        clock: Clock,
        *,
        store: StateFile | None = None,
        budgets: Budgets | None = None,
        on_fleet: Callable[[Fleet], Awaitable[None]] | None = None,
        successor_of: Poller | None = None,
    ) -> None:
        """`on_fleet` is called with each new Fleet. `successor_of` is the account's poller before a reload."""
        self.account = account
        self.fleet = Fleet(account.name)
        self.status = Status(account.name, config.poll.interval)
        self._config = config
        self._budgets = budgets
        self._telemetry = telemetry
        self._clock = clock
        self._on_fleet = on_fleet
        self._log = structlog.get_logger().bind(account=account.name)
        self._rules = config.rules(account)
        limits = config.rate_limit
        successor_of = (
            successor_of if successor_of is not None and successor_of.account.api_url == account.api_url else None
        )
        if successor_of is not None and successor_of.account.token == account.token:
            # The API still counts the requests that were sent before the reload.
            self._budget: Budget = successor_of._budget
            self._budget.set_limits(limits.per_minute, limits.per_hour, limits.reserve)
        else:
            self._budget = Budget(limits.per_minute, limits.per_hour, limits.reserve, clock, telemetry.throttled)
        self._client = Client(
            account.api_url,
            account.token.read,
            self._budget,
            clock,
            observer=telemetry,
            timeout=config.poll.timeout,
            concurrency=config.poll.concurrency,
            budget_of=None if budgets is None else self._budget_of,
            proxy=config.proxies.proxy_for(account.api_url),
            log=self._log,
        )
        self._listings_sent: deque[tuple[float, int]] = deque()
        """The complete listings of the last hour: when each ended, and how many requests it took."""
        self._lister = Lister(self._client, account.selection.select.droplet_ids)
        self._reader = BackupReader(self._client, clock, config.poll.concurrency, config.poll.verify_every)
        self._tracked: dict[int, TrackedDroplet] = {}
        self._supported: dict[str, SupportedPolicy] = {}
        self._supported_at: float | None = None
        self._notices = Notices(self._log)
        self._selects_blindly = False
        """Whether the account's Droplets are selected by tags, and the API shows no tags."""
        self._held_back = False
        """Whether the rate limit prevented a request of this poll."""
        self._droplets_listed = False
        self._listed_at: float | None = None
        """When the last complete listing of Droplets ended."""
        self._remembered = frozenset[int]()
        """The Droplets of the state file, until a complete listing shows that they belong to this token."""
        self._judged = JudgedDroplets(self._rules)
        self._listed = False
        """Whether it was ever known which Droplets are watched."""
        self._store = store
        # Decoding a large state takes a second, so do it only if it is used.
        kept = store.state(account.name, account.api_url) if store is not None and successor_of is None else None
        if successor_of is not None:
            self._inherit(successor_of)
        elif kept is not None:
            self._tracked = kept.tracked()
            self._remembered = frozenset(self._tracked)
            self._listed = any(tracked.named for tracked in self._tracked.values())
            self._droplets_listed = any(tracked.description for tracked in self._tracked.values())
            self._supported = {policy.plan: policy for policy in kept.supported}
            self._supported_at = kept.supported_at

    def _budget_of(self, token: str) -> Budget:
        assert self._budgets is not None
        limits = self._config.rate_limit
        budget = self._budgets.of(self.account.api_url, token, self._budget)
        budget.set_limits(limits.per_minute, limits.per_hour, limits.reserve)
        budget.report_to(self._telemetry.throttled)
        return budget

    def _inherit(self, other: Poller) -> None:
        self._tracked = other._tracked
        self._supported, self._supported_at = other._supported, other._supported_at
        self._listed = other._listed and (other._droplets_listed or not self._rules.watched.needs_description)
        self._droplets_listed, self._listed_at = other._droplets_listed, other._listed_at
        # Until the next answer, a clock that is wrong must judge nothing.
        self._client.http.clock_skew = other._client.clock_skew
        self.status = replace(other.status, interval=self._config.poll.interval, polling_since=None)

    async def judge_remembered(self) -> None:
        """Makes the Fleet of what the state file remembers. It is served until the first listing."""
        if self._listed:
            await self.judge()

    async def run(self) -> None:
        """Polls after a short random wait, and then once per interval, until cancelled."""
        interval = self._config.poll.interval
        await self._clock.sleep(random.uniform(0, min(JITTER, interval / 10)))  # noqa: S311  # no secret depends on it
        try:
            while True:
                # Start a little late if the minute's limit has no room for the listings: without them the poll fails.
                await self._clock.sleep(self._budget.minute_wait(self._lister.cost))
                started = self._clock.now()
                try:
                    await self.poll()
                except Exception as error:  # noqa: BLE001  # a bug must cost this poll, not all later ones
                    self._log.exception("poll broke off")
                    self._finish(started, AccountListings(), self.status.unread, [_bug(error)])
                wait = min(interval, max(0.0, started + interval - self._clock.now()))
                self.status = replace(self.status, next_poll_at=self._clock.now() + wait)
                await self._clock.sleep(wait)
        finally:
            await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def poll(self) -> PollResult:
        """One poll, from the first request to the new Fleet. It ends within its interval; it never raises an error."""
        started = self._clock.now()
        self.status = replace(self.status, polling_since=started, readings_done=0, readings_planned=0)
        self._held_back = False
        self._client.http.deadline = started + self._config.poll.interval
        listings, unread, problems = AccountListings(), frozenset[int](), list[str]()
        try:
            await self._client.refresh_token()
            self._budget = self._client.http.budget if self._budgets is not None else self._budget
        except (TokenError, ApiError) as error:
            problems += self._report([error], learned=False)
        else:
            try:
                listings, errors = await self._list()
                problems += self._report(errors, learned=listings.told)
                await self._learn(listings)
                problems += self._note_tags(listings)
                unread, errors = await self._refresh(listings.told)
                problems += self._report(errors)
            except Exception as error:  # noqa: BLE001  # a bug must cost this poll, not all later ones
                self._log.exception("poll broke off")
                listings = AccountListings()
                problems.append(_bug(error))
        try:
            self._notices.clock(self._client.clock_skew)
            await self._note_unread(unread)
            droplets_before = len(self.fleet.droplets)
            await self.judge()
            self._notices.droplets(droplets_before, len(self.fleet.droplets))
            await self._keep()
        except Exception as error:  # noqa: BLE001  # as above
            self._log.exception("poll broke off")
            listings, problems = AccountListings(), [*problems, _bug(error)]
        return self._finish(started, listings, len(unread), problems)

    # Asking

    async def _list(self) -> tuple[AccountListings, tuple[ApiError, ...]]:
        (listings, errors), refused = await asyncio.gather(self._lister.listings(), self._list_supported())
        if listings.complete:
            self._listings_sent.append((self._clock.now(), self._lister.cost))
        unnamed = [
            tracked.id
            for tracked in self._tracked.values()
            if listings.complete and not listings.names(tracked.id) and self._judged.watches(tracked)
        ][:LOOKED_UP_AT_ONCE]
        answers = await asyncio.gather(*(self._is_gone(droplet_id) for droplet_id in unnamed))
        gone = listings.gone.union(droplet_id for droplet_id, is_gone in zip(unnamed, answers, strict=True) if is_gone)
        return replace(listings, gone=gone), errors + refused

    async def _is_gone(self, droplet_id: int) -> bool:
        try:
            await self._client.droplet(droplet_id)
        except NotFound:
            return True
        except ApiError:
            return False
        return False

    async def _list_supported(self) -> tuple[ApiError, ...]:
        """Reads the supported policies at the start and once in `verify_every`, because they hardly ever change."""
        now = self._clock.now()
        if self._supported_at is not None and 0 <= now - self._supported_at < self._config.poll.verify_every:
            return ()
        listing = await self._client.supported_policies()
        if listing.error is not None:
            return (listing.error,)
        self._supported_at = now
        self._supported = supported_policies_of(listing.records.values())
        return ()

    # Learning

    async def _learn(self, listings: AccountListings) -> None:
        now = self._clock.now()
        self._droplets_listed |= listings.droplets_complete
        if listings.droplets_complete:
            self._listed_at = now
        self._listed |= self._droplets_listed if self._rules.watched.needs_description else listings.told
        if self._remembered and listings.complete:
            if not any(map(listings.names, self._remembered)):
                self._log.warning(
                    "state not used",
                    problem="the listings have none of the Droplets in the state file",
                    effect="those Droplets are forgotten: the token belongs to another team",
                )
                self._tracked = {}
            self._remembered = frozenset()
        tells_ids = listings.tells_backup_ids
        everyone = {*self._tracked, *listings.descriptions, *listings.policies}
        async for droplet_id in with_pauses(everyone):
            learnt = learn(
                self._tracked.get(droplet_id),
                droplet_id,
                listings,
                now,
                tells_backup_ids=tells_ids,
                watched_since=self.account.watched_since,
            )
            if learnt is None:
                self._tracked.pop(droplet_id, None)
            else:
                self._tracked[droplet_id] = learnt

    def _count_left_out(self, listings: AccountListings) -> int:
        """How many Droplets that may be selected are missing, because their records cannot be understood."""
        left_out = 0
        for droplet_id in listings.rejected_droplets | listings.rejected_policies:
            tracked = self._tracked.get(droplet_id)
            if tracked is None or not self._judged.watches(tracked):
                description = None if tracked is None else tracked.description
                left_out += self._rules.watched.means(droplet_id, description) is not False
        if listings.unidentified_droplets:
            # A record without a readable id may be that of a Droplet that this listing lacks, but that is known from
            # before or by its policy.
            others = self._tracked.keys() | listings.rejected_policies
            others -= listings.descriptions.keys() | listings.rejected_droplets
            left_out += max(0, listings.unidentified_droplets - len(others))
        return left_out

    def _note_tags(self, listings: AccountListings) -> list[str]:
        """Notes whether the API shows tags; gives the problem if Droplets are selected by tags and it does not."""
        if not listings.descriptions:
            return []
        unknown = all(description.tags is None for description in listings.descriptions.values())
        self._selects_blindly = unknown and self._rules.watched.needs_tags
        self._notices.tags(unknown=unknown, selects_blindly=self._selects_blindly)
        if not self._selects_blindly:
            return []
        return ["the API shows no tags, so the selection by tags watches nothing; give the token the scope tag:read"]

    # Reading

    async def _refresh(self, answers: bool) -> tuple[frozenset[int], tuple[ApiError, ...]]:
        """Reads the lists of backups that are due; gives the Droplets whose list is due and was not read, and errors.

        Without `answers`, that is if the API answered no listing, it reads nothing.
        """
        await self._check_budget()
        plan = await self._plan(self._tracked)
        if not answers:
            return plan.needed, ()
        outcome = await self._read(plan)
        # A sweep may show that a window brought no backup, and it does not tell whether backups that the listing lacks
        # are late or gone. Only the Droplet's own list does.
        proving = await self._plan(outcome.swept, (Urgency.DUE, Urgency.VERIFY, Urgency.UNSURE))
        if not proving.readings:
            return plan.needed - outcome.settled, outcome.errors
        proved = await self._read(proving)
        unread = (plan.needed - outcome.settled) | (proving.needed - proved.settled)
        return unread, outcome.errors + proved.errors

    async def _check_budget(self) -> None:
        """Warns if the account needs more requests than its budget allows."""
        poll = self._config.poll
        droplets = listed = 0
        backups = 0.0
        async for tracked in with_pauses(self._tracked.values()):
            listed += len(tracked.listed or ())
            if self._judged.watches(tracked):
                droplets += 1
                backups += backups_an_hour(tracked)
        forecast = forecast_requests(
            droplets,
            backups,
            self._lister.cost,
            max(self._reader.sweep_pages, pages_of(listed)),
            poll.interval,
            poll.verify_every,
        )
        self._notices.budget(forecast, self._budget.allowance)

    async def _plan(self, droplet_ids: Iterable[int], among: Collection[Urgency] = tuple(Urgency)) -> ReadPlan:
        now = self._clock.now()
        # A list is read at the first poll after its turn, so a turn comes one interval before `verify_every` ends.
        turns = max(self._config.poll.verify_every - self._config.poll.interval, self._config.poll.interval)
        read_policy = ReadPolicy(any(tracked.unlisted for tracked in self._tracked.values()), turns)
        clock_wrong = self._clock_ahead is not None
        reasons: list[tuple[Urgency, TrackedDroplet]] = []
        enabled = 0
        async for tracked in with_pauses([self._tracked[droplet_id] for droplet_id in droplet_ids]):
            if not self._judged.watches(tracked):
                continue
            enabled += tracked.policy is not None and tracked.policy.enabled is True
            if not read_policy.ids_unreliable and self._judged.needs_no_reading(tracked, now):
                continue
            reason = reason_to_read(tracked, self._supported, self._rules, read_policy, now, clock_wrong=clock_wrong)
            if reason is None and not clock_wrong:
                self._judged.remember_no_reading(tracked, read_policy, now)
            if reason is not None and reason in among:
                reasons.append((reason, tracked))
        return plan_of(reasons, enabled, self._budget.spare(self._keep_back()))

    async def _read(self, plan: ReadPlan) -> ReadResult:
        self.status = replace(self.status, readings_planned=len(plan.readings))
        return await self._reader.read(
            plan,
            self._tracked,
            keep=self._keep_back(),
            progress=self._progress,
            supported=self._supported,
        )

    def _keep_back(self) -> int:
        """How many requests to keep for the listings of the coming hour. Without listings nothing new is noticed.

        The requests of the last hour's listings expire one listing after the other and make room for the coming ones.
        """
        now, cost = self._clock.now(), self._lister.cost
        while self._listings_sent and self._listings_sent[0][0] <= now - HOUR:
            self._listings_sent.popleft()
        room = sum(sent for _, sent in self._listings_sent)
        to_come = max(0.0, cost * HOUR / self._config.poll.interval - room) + cost
        return int(min(to_come, self._budget.allowance / 2))

    def _progress(self, done: int) -> None:
        self.status = replace(self.status, readings_done=done)

    async def _note_unread(self, unread: frozenset[int]) -> None:
        async for tracked in with_pauses(list(self._tracked.values())):
            if tracked.unread != (tracked.id in unread):
                self._tracked[tracked.id] = structs.replace(tracked, unread=tracked.id in unread)

    # Telling

    async def judge(self) -> None:
        """Judges the Droplets as they are known now, and replaces the served Fleet."""
        now = self._clock.now()
        self._judged.begin(self._supported, self._tracked.keys())
        droplets: list[Droplet] = []
        if self._listed:
            clock_ahead = self._clock_ahead
            async for tracked in with_pauses(sorted(self._tracked.values(), key=attrgetter("id"))):
                if self._judged.watches(tracked):
                    assembled = self._judged.assembled(tracked, now, clock_ahead)
                    self._tracked[tracked.id] = assembled.source
                    droplets.append(assembled.droplet)
        self.fleet = Fleet(
            self.account.name,
            tuple(droplets),
            tuple(self._supported.values()),
            listed_at=self._listed_at,
            known=self._listed,
        )
        if self._on_fleet is not None:
            await self._on_fleet(self.fleet)

    @property
    def _clock_ahead(self) -> float | None:
        return clock_ahead_of(self._client.clock_skew)

    async def _keep(self) -> None:
        if self._store is not None and self._listed:
            state = AccountState(
                self.account.api_url, list(self._tracked.values()), list(self._supported.values()), self._supported_at
            )
            # A disk that hangs must not make the poll much longer than its interval.
            left = max(1.0, (self._client.http.deadline - self._clock.now()) / self._clock.speed)
            await self._store.save(self.account.name, state, left)
            self._telemetry.state_kept(self._store.is_saved)

    def _finish(self, started: float, listings: AccountListings, unread: int, problems: list[str]) -> PollResult:
        now = self._clock.now()
        result: PollResult = (
            "failure" if not listings.complete or self._selects_blindly else "partial" if unread else "success"
        )
        previous = self.status.result
        self._telemetry.poll_finished(result, now - started, now, listed=listings.complete, unread=unread)
        self.status = replace(
            self.status,
            ready=self.status.ready or listings.policies_complete or listings.droplets_complete,
            result=result,
            learned=self.status.learned or listings.told,
            polling_since=None,
            last_poll_at=now,
            last_listing_at=now if listings.complete else self.status.last_listing_at,
            unread=unread,
            left_out=self._count_left_out(listings),
            problems=tuple(problems),
            held_back=self._held_back,
        )
        report = self._log.warning if result != "success" else self._log.info if previous != result else self._log.debug
        report("poll finished", result=result, droplets=len(self.fleet.droplets), unread=unread)
        return result

    def _report(self, errors: Iterable[ApiError | TokenError], *, learned: bool = True) -> list[str]:
        """Logs errors with what is served meanwhile, and returns them as sentences: one for all that differ only in the
        request.
        """
        alike: dict[str, list[ApiError | TokenError]] = {}
        for error in errors:
            self._held_back |= isinstance(error, OutOfBudget | Throttled)
            alike.setdefault(without_request(in_words(error, self.account.token)), []).append(error)
        problems = []
        for same in alike.values():
            problem = in_words(same[0], self.account.token)
            endpoints = dict.fromkeys(error.endpoint if isinstance(error, ApiError) else "none" for error in same)
            report = self._log.warning if learned else self._log.error
            report(
                "poll incomplete" if learned else "poll failed",
                endpoint=" ".join(endpoints),
                problem=problem,
                kept="last good data" if self.fleet.known else "nothing: no listing was complete yet",
                retry_in=duration_text(self._config.poll.interval),
            )
            problems.append(problem)
        return problems


def _bug(error: Exception) -> str:
    return f"the poll broke off: {error!r}; this is a bug, please report it"
