"""A fleet as text for Prometheus: made once after a poll, joined at a scrape.

The text is exactly that of the client library. It is the same for text 0.0.4 and OpenMetrics 1.0, because nothing is
used here in which these formats differ. Families whose values change with the clock come last. The text before them,
its checksum and its compressed form are ready after the poll.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import floor, inf
from operator import is_, itemgetter
from typing import cast

from prometheus_client.utils import floatToGoString

from exporter.cooperative import Steps, run_with_pauses, run_without_pauses
from exporter.fleet.model import Droplet, Fleet
from exporter.metrics.families import (
    ACCOUNT_FAMILIES,
    DROPLET_FAMILIES,
    IDENTITY,
    ClockFamily,
    DropletFamily,
    Family,
    FleetFamily,
    ListingFamily,
)
from exporter.threads import ThreadPool

BATCH = 100
"""Droplets that are rendered together. If none of them changed, their text is kept from poll to poll."""
STEP = 500
"""Samples that a scrape computes without a pause: about a millisecond of work."""
SHORT = 32 * 1024
"""Bytes. A shorter text is compressed on the loop, because changing to a thread takes longer than that."""

POLL_LEVEL = 6
SCRAPE_LEVEL = 1
"""Compression levels: after a poll, where size matters more, and at a scrape, where time does."""
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""A gzip header without a file name or time, for any system (RFC 1952)."""

THREADS = ThreadPool("render the metrics", 4, caller_may_work=True)
RENDERED_WITHIN = 60.0
"""Seconds. Rendering takes longer only because of a bug, or if the machine gives no processor time."""

STATIC_FAMILIES: tuple[DropletFamily | ListingFamily | FleetFamily, ...] = (
    *(family for family in DROPLET_FAMILIES if not isinstance(family, ClockFamily)),
    *ACCOUNT_FAMILIES,
)
CLOCK_FAMILIES = tuple(family for family in DROPLET_FAMILIES if isinstance(family, ClockFamily))


def without_surrogates(value: str) -> str:
    """The value with U+FFFD for lone surrogates, which JSON and YAML allow and UTF-8 does not."""
    return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def escape_label(value: str) -> str:
    """A label's value as both formats write it."""
    return without_surrogates(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number_text(value: float) -> str:
    """A sample's value as the client library writes it. Only large values and NaN differ from Python's text."""
    return repr(float(value)) if -inf < value < 1e6 else _large_number_text(value)


@lru_cache(256)  # most Droplets have the time of the last listing
def _large_number_text(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def family_header(family: Family) -> bytes:
    """The HELP and TYPE lines of a family."""
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n".encode()


class Exposition:
    """The text of every account's fleet, for any number of scrapers.

    `tag_labels` are the names of the configured tag labels, in the order of `Droplet.tag_labels`.
    """

    def __init__(self, tag_labels: Sequence[str] = ()) -> None:
        self._tag_labels = tuple(tag_labels)
        self._accounts: dict[str, _AccountText] = {}
        self._lock = asyncio.Lock()
        self._current = _TextAtSecond(_Snapshot.of([]), 0)

    async def update(self, fleet: Fleet) -> None:
        """Renders a new fleet of an account. Until the whole text is ready, scrapes get the text from before."""
        async with self._lock:
            old = self._accounts.get(fleet.account)
            account = await run_with_pauses(_render(fleet, self._tag_labels, old))
            self._accounts[fleet.account] = await THREADS.run(account.compressed, within=RENDERED_WITHIN)
            await self._assemble()

    async def remove(self, account: str) -> None:
        """Forgets an account that is no longer configured."""
        async with self._lock:
            if self._accounts.pop(account, None) is not None:
                await self._assemble()

    async def text_at(self, now: float, *, tail: bytes = b"", gzip: bool = False) -> list[bytes]:
        """The text at `now`, rounded down to a second, and `tail` after it, in pieces to be sent one after the other.

        With `gzip`, the pieces together are one gzip member.
        """
        current = self._current
        if current.now != floor(now):
            self._current = current = _TextAtSecond(current.snapshot, floor(now))
        if not gzip:
            return [*current.snapshot.text, *await current.text(), tail]
        deflated = await current.deflated()
        crc = zlib.crc32(tail, deflated.crc)
        length = (deflated.length + len(tail)) & 0xFFFFFFFF
        end = _deflate([tail], SCRAPE_LEVEL, zlib.Z_FINISH) + struct.pack("<LL", crc, length)
        return [*current.snapshot.deflated, deflated.data, end]

    async def text_of(self, now: float, names: Collection[str], *, tail: bytes = b"") -> list[bytes]:
        """The text of only the named families at `now`, and `tail` after it, in pieces."""
        accounts = [account for _, account in sorted(self._accounts.items())]
        text: list[bytes] = []
        for place, family in enumerate(STATIC_FAMILIES):
            if family.name in names:
                text.append(family_header(family))
                for account in accounts:
                    text.extend(account.static[place].text)
        for place, clock_family in enumerate(CLOCK_FAMILIES):
            if clock_family.name in names:
                text.append(family_header(clock_family))
                for account in accounts:
                    text.extend(await run_with_pauses(account.moving[place].at(floor(now))))
        return [*text, tail]

    async def _assemble(self) -> None:
        accounts = [account for _, account in sorted(self._accounts.items())]
        self._current = _TextAtSecond(await THREADS.run(_Snapshot.of, accounts, within=RENDERED_WITHIN), 0)


def render(fleets: Iterable[Fleet], now: float, tag_labels: Sequence[str] = ()) -> bytes:
    """The same text, for callers that need it only once."""
    ordered = sorted(fleets, key=lambda fleet: fleet.account)
    snapshot = _Snapshot.of([run_without_pauses(_render(fleet, tuple(tag_labels), None)) for fleet in ordered])
    return b"".join(chain(snapshot.text, run_without_pauses(snapshot.moving_text(floor(now)))))


@dataclass(frozen=True, slots=True)
class _StaticSamples:
    """One account's samples of a family that does not change with the clock: as text and as raw deflate blocks."""

    text: tuple[bytes, ...]
    """A piece for each batch of Droplets."""
    deflated: bytes | None = None

    def compressed(self) -> _StaticSamples:
        """The same samples with their deflate blocks."""
        if self.deflated is not None:
            return self
        return _StaticSamples(self.text, _deflate(self.text, POLL_LEVEL, zlib.Z_FULL_FLUSH))


@dataclass(frozen=True, slots=True)
class _MovingSamples:
    """One account's samples of a family that changes with the clock: the text before each value, and its basis."""

    family: ClockFamily
    prefixes: list[bytes]
    distinct: list[Hashable]
    """The different bases from which values are computed. Droplets share windows, so there are fewer than samples."""
    which: list[int]
    """For each sample, its place in `distinct`."""

    def at(self, now: float) -> Steps[list[bytes]]:
        """The lines of the samples at `now`."""
        value_at = self.family.at
        values: list[bytes | None] = []
        for start in range(0, len(self.distinct), STEP):
            values += [
                None if (value := value_at(basis, now)) is None else f"{number_text(value)}\n".encode()
                for basis in self.distinct[start : start + STEP]
            ]
            yield
        text = []
        for start in range(0, len(self.which), STEP):
            prefixes = self.prefixes[start : start + STEP]
            found = [values[place] for place in self.which[start : start + STEP]]
            parts: list[bytes | None] = [None] * (2 * len(found))
            parts[::2], parts[1::2] = prefixes, found
            if None in found:
                parts = [part for pair in zip(prefixes, found, strict=True) if pair[1] is not None for part in pair]
            text.append(b"".join(cast("list[bytes]", parts)))
            yield
        return text


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Some Droplets, and for each the text of the labels that identify it."""

    droplets: tuple[Droplet, ...]
    identities: list[str]

    def holds(self, droplets: tuple[Droplet, ...]) -> bool:
        """Whether these are the Droplets of the batch, and none has changed."""
        return len(droplets) == len(self.droplets) and all(map(is_, droplets, self.droplets))


@dataclass(frozen=True, slots=True)
class _AccountText:
    """All samples of one account, by family."""

    batches: tuple[_Batch, ...]
    static: tuple[_StaticSamples, ...]
    moving: tuple[_MovingSamples, ...]

    def compressed(self) -> _AccountText:
        """The same samples, with deflate blocks for those that do not change with the clock."""
        return _AccountText(self.batches, tuple(samples.compressed() for samples in self.static), self.moving)


@dataclass(frozen=True, slots=True)
class _Deflated:
    """Raw deflate blocks, with the checksum and the length of the whole text up to their end."""

    data: bytes
    crc: int
    length: int


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The text of all accounts after their latest polls: each family's header, then its samples of each account."""

    text: tuple[bytes, ...]
    deflated: tuple[bytes, ...]
    crc: int
    length: int
    moving: tuple[tuple[_MovingSamples, ...], ...]
    """For each of `CLOCK_FAMILIES`, the samples of each account."""

    @classmethod
    def of(cls, accounts: Sequence[_AccountText]) -> _Snapshot:
        """The snapshot of these accounts. They must be compressed if the compressed text is needed."""
        text: list[bytes] = []
        deflated = [GZIP_HEADER]
        for place, family in enumerate(STATIC_FAMILIES):
            text.append(family_header(family))
            deflated.append(_deflate([family_header(family)], POLL_LEVEL, zlib.Z_FULL_FLUSH))
            for account in accounts:
                text.extend(account.static[place].text)
                deflated.append(account.static[place].deflated or b"")
        crc = 0
        for piece in text:
            crc = zlib.crc32(piece, crc)
        return cls(
            text=tuple(text),
            deflated=tuple(deflated),
            crc=crc,
            length=sum(map(len, text)),
            moving=tuple(tuple(account.moving[place] for account in accounts) for place in range(len(CLOCK_FAMILIES))),
        )

    def moving_text(self, now: float) -> Steps[tuple[bytes, ...]]:
        """The text of `CLOCK_FAMILIES` at `now`."""
        text: list[bytes] = []
        for family, accounts in zip(CLOCK_FAMILIES, self.moving, strict=True):
            text.append(family_header(family))
            for samples in accounts:
                text.extend((yield from samples.at(now)))
        return tuple(text)


class _TextAtSecond:
    """A snapshot's text at one second. Values that change with the clock are computed once for all scrapers."""

    def __init__(self, snapshot: _Snapshot, now: int) -> None:
        self.snapshot = snapshot
        self.now = now
        self._text: asyncio.Task[tuple[bytes, ...]] | None = None
        self._deflated: asyncio.Task[_Deflated] | None = None

    async def text(self) -> tuple[bytes, ...]:
        """The text of `CLOCK_FAMILIES`."""
        if self._text is None:
            self._text = asyncio.create_task(run_with_pauses(self.snapshot.moving_text(self.now)))
        # A scraper that gives up must not cancel the work that others wait for.
        return await asyncio.shield(self._text)

    async def deflated(self) -> _Deflated:
        """The same text as deflate blocks."""
        if self._deflated is None:
            self._deflated = asyncio.create_task(self._deflate())
        return await asyncio.shield(self._deflated)

    async def _deflate(self) -> _Deflated:
        text = await self.text()
        if sum(map(len, text)) < SHORT:
            return self._compress(text)
        # zlib lets other threads run.
        return await THREADS.run(self._compress, text, within=RENDERED_WITHIN)

    def _compress(self, text: tuple[bytes, ...]) -> _Deflated:
        crc = self.snapshot.crc
        for piece in text:
            crc = zlib.crc32(piece, crc)
        length = self.snapshot.length + sum(map(len, text))
        return _Deflated(_deflate(text, SCRAPE_LEVEL, zlib.Z_FULL_FLUSH), crc, length)


def _render(fleet: Fleet, tag_labels: tuple[str, ...], old: _AccountText | None) -> Steps[_AccountText]:
    """One account's text. The text of a batch and the compressed form of a family are kept if they are as in `old`."""
    batches: list[_Batch] = []
    account = escape_label(fleet.account)
    before = old.batches if old else ()
    for place, start in enumerate(range(0, len(fleet.droplets), BATCH)):
        droplets = fleet.droplets[start : start + BATCH]
        if place < len(before) and before[place].holds(droplets):
            batches.append(before[place])
        else:
            identities = [
                f'account="{account}",droplet_id="{d.id}",droplet_name="{escape_label(d.name)}"' for d in droplets
            ]
            batches.append(_Batch(droplets, identities))
        yield
    changed = [place for place, batch in enumerate(batches) if place >= len(before) or batch is not before[place]]
    static = []
    for place, family in enumerate(STATIC_FAMILIES):
        kept = old.static[place] if old else _StaticSamples(())
        if isinstance(family, FleetFamily):
            pieces = [_account_samples(family, fleet)]
        elif isinstance(family, ListingFamily):
            pieces = []
            for batch in batches:
                pieces.append(_listing_lines(family, fleet, batch))
                yield
        else:
            pieces = [*kept.text[: len(batches)], *(b"",) * (len(batches) - len(kept.text))]
            lines = _line_renderer(family, fleet.account, tag_labels)
            for number in changed:
                pieces[number] = lines(batches[number].droplets, batches[number].identities)
                yield
        static.append(kept if kept.text == tuple(pieces) else _StaticSamples(tuple(pieces)))
    same = old is not None and not changed and len(batches) == len(before)
    if same and old is not None:
        return _AccountText(tuple(batches), tuple(static), old.moving)
    moving: list[_MovingSamples] = []
    for clock_family in CLOCK_FAMILIES:
        moving += [(yield from _moving_samples(clock_family, batches))]
    return _AccountText(tuple(batches), tuple(static), tuple(moving))


def _listing_lines(family: ListingFamily, fleet: Fleet, batch: _Batch) -> bytes:
    return "".join(
        [
            f"{family.name}{{{identity}}} {number_text(value)}\n"
            for droplet, identity in zip(batch.droplets, batch.identities, strict=True)
            if (value := family.value(droplet, fleet)) is not None
        ]
    ).encode()


def _line_renderer(
    family: DropletFamily, account: str, tag_labels: tuple[str, ...]
) -> Callable[[Sequence[Droplet], Sequence[str]], bytes]:
    """A function that makes the lines of a family, from some Droplets and the text of their identities."""
    name, value_of, more = family.name, family.value, family.more
    label_names = family.label_names(tag_labels)
    if label_names == IDENTITY:

        def plain(droplets: Sequence[Droplet], identities: Sequence[str]) -> bytes:
            return "".join(
                [
                    f"{name}{{{identity}}} {number_text(value)}\n"
                    for droplet, identity in zip(droplets, identities, strict=True)
                    if (value := value_of(droplet)) is not None
                ]
            ).encode()

        return plain

    places = sorted(range(len(label_names)), key=label_names.__getitem__)
    pick = itemgetter(*places)
    template = f"{name}{{" + ",".join(f'{label_names[place]}="%s"' for place in places) + "} %s\n"
    tags = len(tag_labels) if family.tagged else 0
    none = ("",) * tags

    def labelled(droplets: Sequence[Droplet], _: Sequence[str]) -> bytes:
        lines = []
        for droplet in droplets:
            value = value_of(droplet)
            if value is not None:
                tag_values = (droplet.tag_labels + none)[:tags]
                values = (account, str(droplet.id), droplet.name, *more(droplet), *tag_values)
                lines.append(template % (*map(escape_label, pick(values)), number_text(value)))
        return "".join(lines).encode()

    return labelled


def _account_samples(family: FleetFamily, fleet: Fleet) -> bytes:
    lines = []
    for more, value in family.samples(fleet):
        labels = sorted(zip(family.labels, (fleet.account, *more), strict=True))
        text = ",".join(f'{name}="{escape_label(label)}"' for name, label in labels)
        lines.append(f"{family.name}{{{text}}} {number_text(value)}\n")
    return "".join(lines).encode()


def _moving_samples(family: ClockFamily, batches: Iterable[_Batch]) -> Steps[_MovingSamples]:
    prefixes: list[bytes] = []
    places: dict[Hashable, int] = {}
    which: list[int] = []
    for batch in batches:
        for droplet, identity in zip(batch.droplets, batch.identities, strict=True):
            basis = family.basis(droplet)
            if basis is not None:
                prefixes.append(f"{family.name}{{{identity}}} ".encode())
                which.append(places.setdefault(basis, len(places)))
        yield
    return _MovingSamples(family, prefixes, list(places), which)


def _deflate(pieces: Iterable[bytes], level: int, flush: int) -> bytes:
    """Raw deflate blocks. After a full flush they end at a byte, so that any other such blocks can follow."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*map(deflate.compress, pieces), deflate.flush(flush)])
