"""The configuration: a YAML file, or else the environment, made into one frozen `Config`. It reports every mistake."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from exporter.config import proxies, state_location
from exporter.config.durations import not_a_duration, parse_duration
from exporter.config.model import API_URL, Account, Config, MaxAge, Poll, RateLimit, TagLabel
from exporter.config.patterns import compile_pattern
from exporter.config.proxies import Proxies
from exporter.config.tokens import TokenError, TokenSource, looks_like_token
from exporter.config.yaml_document import ConfigError, Value, checked_path, checked_text, quoted, read_yaml
from exporter.fleet.selection import Criteria, Selection

T = TypeVar("T")
Decoder = Callable[[Value], T]

_TOKEN_VARIABLES = ("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_TOKEN_FILE")
_NOTHING_SET = (
    "no token: set DIGITALOCEAN_ACCESS_TOKEN to it, or DIGITALOCEAN_TOKEN_FILE to the path of a file that holds it, "
    "or write a configuration and name it by --config.file; to look around without a token: serve --demo"
)


def load_environment(environ: Mapping[str, str] = os.environ) -> Config:
    """A configuration with one account named `default`, from the variables that DigitalOcean's own tools read.

    An empty variable counts as unset. Raises `ConfigError`.
    """
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    problems = []
    api_url = API_URL
    if "DIGITALOCEAN_API_URL" in given:
        try:
            api_url = _url(given["DIGITALOCEAN_API_URL"])
        except ValueError as wrong:
            problems.append(f"DIGITALOCEAN_API_URL: {wrong}")
    token = TokenSource()
    variable = next((name for name in _TOKEN_VARIABLES if name in given), None)
    if variable is None:
        problems.append(_NOTHING_SET)
    elif variable == "DIGITALOCEAN_TOKEN_FILE" and looks_like_token(given[variable]):
        problems.append(f"{variable}: this looks like the token itself; set DIGITALOCEAN_ACCESS_TOKEN to it instead")
    else:
        try:
            if variable == "DIGITALOCEAN_TOKEN_FILE":
                token = TokenSource(file=checked_path(checked_text(given[variable])))
            else:
                token = TokenSource(env=variable)
            token.read(given)
        except (TokenError, ValueError) as wrong:
            problems.append(f'{variable}: account "default" has no token: {wrong}')
    proxy = _proxies([api_url], environ, problems)
    if problems:
        raise ConfigError(*problems)
    state_file = state_location.automatic_state_file(environ)
    return Config(accounts=(Account("default", token, api_url),), state_file=state_file, proxies=proxy)


def _proxies(api_urls: Iterable[str], environ: Mapping[str, str], problems: list[str]) -> Proxies:
    """The proxies of the environment, if one of the addresses can use a proxy. Adds mistakes to `problems`."""
    try:
        return proxies.environment_proxies(environ) if any(url.startswith("https:") for url in api_urls) else Proxies()
    except ConfigError as error:
        problems += error.problems
        return Proxies()


def load_file(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a file. Every token is read once, so that a missing token is reported now.

    Raises `ConfigError` with all mistakes, in the order of the file.
    """
    root = read_yaml(path)
    try:
        given = root.decode_mapping(_TOP)
        if "accounts" not in given:
            root.add_problem("missing; list at least one account, with its name and token_file", "accounts")
    except ValueError:  # the content is not shown: the file could be a token file
        root.add_problem("the file holds no keys; write a configuration like that of config.example.yaml")
    root.document.check()
    problems: list[str] = []
    proxy = _proxies([account.api_url for account in given["accounts"]], environ, problems)
    if problems:
        raise ConfigError(*problems)
    overdue, labels = given.pop("overdue", {}), given.pop("labels", {})
    if "state_file" not in root.entries():
        given["state_file"] = state_location.automatic_state_file(environ)
    return Config(**given, **overdue, tag_labels=labels.get("tags", ()), proxies=proxy)


# The schema: for each key, the function that makes the value from the YAML


def _section(make: Callable[..., T], schema: Mapping[str, Decoder[Any]]) -> Decoder[T]:
    return lambda value: make(**value.decode_mapping(schema))


def _list_of(decode: Decoder[Any], make: Callable[[Iterable[Any]], T]) -> Decoder[T]:
    return lambda value: make(value.decode_each(decode))


def _whole_number(highest: int, example: int, what: str = "") -> Decoder[int]:
    def decode(value: Value) -> int:
        if re.fullmatch(r"[1-9][0-9_]{0,24}", value.number_as_written or ""):
            number = int(str(value.number_as_written).replace("_", ""))
            if number <= highest:
                return number
        wanted = what or f"a whole number from 1 to {highest}"
        raise ValueError(f"{value.as_shown} is not {wanted}; write it like {example}{_without_quotes(value)}")

    return decode


def _without_quotes(value: Value) -> str:
    return ", without quotes" if value.is_text else ""


def _fraction(value: Value) -> float:
    if re.fullmatch(r"0|0?\.[0-9]+", value.number_as_written or ""):
        return float(str(value.number_as_written))
    raise ValueError(f"{value.as_shown} is not a number from 0 to below 1; write it like 0.2{_without_quotes(value)}")


def _duration(value: Value) -> float:
    if value.number_as_written or value.is_text:
        return parse_duration(value.number_as_written or value.text())
    raise not_a_duration(value.as_shown)


_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?!-)[\w-]{1,63}(?:\.[\w-]{1,63})*\.?|\[[0-9a-f:.]+\])"
    r"(?P<port>:[0-9]{1,5})?(?P<path>(?:/[\w.~%-]+)*)/*",
    re.ASCII | re.IGNORECASE,
)


def _url(text: str) -> str:
    """The address of an API, without a slash at its end. Raises `ValueError` if a token must not be sent there."""
    for mark, part in (("@", "a user name or password"), ("?", "a query"), ("#", "a fragment")):
        if mark in text:  # the text may hold a secret then, so it is not shown
            raise ValueError(f"the address holds {part}; leave out the part with {mark}, as in {API_URL}")
    match = _URL.fullmatch(checked_text(text))
    port = int((match["port"] or ":443")[1:]) if match else 0
    if match is None or not 0 < port < 2**16 or (match["host"][0] == "[" and not _ip(match["host"])):
        raise ValueError(f"{quoted(text)} is not the address of an API; write it like {API_URL}")
    scheme, host, path = match["scheme"].lower(), match["host"].lower(), match["path"]
    ip = _ip(host)
    if scheme == "http" and host != "localhost" and not (ip and ip.is_loopback):
        raise ValueError(
            f"{quoted(text)} would send the token unencrypted; write https:// (plain http is for loopback alone)"
        )
    if path.endswith("/v2"):
        raise ValueError(f"{quoted(text)} ends in /v2, which the exporter adds to every request; leave it out")
    return f"{scheme}://{host}{match['port'] or ''}{path}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


_RESERVED_LABELS = ("account", "droplet_id", "droplet_name", "region", "size", "status", "job", "instance", "le")
"""The labels that `digitalocean_backup_droplet_info` has already, and labels with a meaning in Prometheus."""


def _tag_labels(value: Value) -> tuple[TagLabel, ...]:
    return tuple(prefix.decoded_by(partial(_tag_label, label)) for label, prefix in value.entries().items())


def _tag_label(label: str, prefix: Value) -> TagLabel:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", checked_text(label)):
        raise ValueError("not a label's name; write letters, digits and _, and no digit first")
    if label in _RESERVED_LABELS or label.startswith("__"):
        raise ValueError(f"the label {label} is reserved; choose another name, like tag_{label.strip('_')}")
    return TagLabel(label, prefix.text())


def _accounts(value: Value) -> tuple[Account, ...]:
    names: dict[str, str] = {}
    accounts = tuple(value.decode_each(partial(_account, names)))
    if not accounts:
        raise ValueError("the list is empty; list at least one account, with its name and token_file")
    return accounts


def _account(names: dict[str, str], value: Value) -> Account:
    """One account. `names` holds the place of each name found so far."""
    given = value.decode_mapping(_ACCOUNT)
    place, name = given.get("name") or (value, "")
    if "name" not in given:
        value.add_problem("missing; write a name that no other account has; it becomes the label account", "name")
    elif name in names:
        place.add_problem(f"{names[name]} has the name {quoted(name)} too; give each account a name of its own")
    elif name:
        names[name] = value.key
    token = TokenSource()
    match [given[key] for key in ("token_file", "token_env") if key in given]:
        case [(place, token)]:
            try:
                token.read()
            except TokenError as error:
                account = f"account {quoted(name)}" if name else "this account"
                place.add_problem(f"{account} has no token: {error}")
        case []:
            value.add_problem(
                "neither token_file nor token_env is given; name the file or the variable that holds the token"
            )
        case [_, _]:
            value.add_problem("both token_file and token_env are given; keep the one that holds the token")
    selection = Selection(given.get("select", Criteria()), given.get("exclude", Criteria()))
    return Account(name, token, given.get("api_url", API_URL), selection)


def _variable(value: Value) -> TokenSource:
    name = value.text()
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        # The value is not shown: somebody may have written the token itself here.
        raise ValueError("not the name of an environment variable; write one like DIGITALOCEAN_ACCESS_TOKEN")
    return TokenSource(env=name)


def _path(value: Value) -> Path:
    return checked_path(value.text())


def _state_file(value: Value) -> Path | None:
    if value.is_text and value.text() == "auto":
        return state_location.automatic_state_file()
    path = _path(value)
    if path.is_dir():
        raise ValueError(f"{quoted(str(path))} is a directory; name a file in it, like {path / 'state.json'}")
    return path


def _max_age(value: Value) -> MaxAge:
    given = value.decode_mapping({"select": _section(Criteria, _CRITERIA), "age": _duration})
    if "select" not in given:
        value.add_problem("missing; write which droplets it is for, or {} for all", "select")
    if "age" not in given:
        value.add_problem("missing; write how old their newest backup may be, like 26h", "age")
    return MaxAge(Selection(given.get("select") or Criteria()), given.get("age") or 0.0)


def _with_place(decode: Decoder[T]) -> Decoder[tuple[Value, T]]:
    return lambda value: (value, decode(value))


_CRITERIA: Mapping[str, Decoder[Any]] = {
    "droplet_ids": _list_of(_whole_number(2**63 - 1, 123456789, "a droplet's id"), frozenset),
    "tags": _list_of(Value.text, frozenset),
    "names": _list_of(lambda value: compile_pattern(value.text()), tuple),
    "regions": _list_of(Value.text, frozenset),
}
_SELECTION = dict.fromkeys(("select", "exclude"), _section(Criteria, _CRITERIA))
_ACCOUNT: Mapping[str, Decoder[Any]] = {
    "name": _with_place(Value.text),
    "token_file": _with_place(lambda value: TokenSource(file=_path(value))),
    "token_env": _with_place(_variable),
    "api_url": lambda value: _url(value.text()),
    **_SELECTION,
}
_TOP: Mapping[str, Decoder[Any]] = {
    "accounts": _accounts,
    "poll": _section(
        Poll,
        {
            "interval": _duration,
            "timeout": _duration,
            "concurrency": _whole_number(10_000, 8),
            "verify_every": _duration,
        },
    ),
    "rate_limit": _section(
        RateLimit,
        {"per_minute": _whole_number(10**9, 250), "per_hour": _whole_number(10**9, 5000), "reserve": _fraction},
    ),
    "expect_backups": _section(Selection, _SELECTION),
    "overdue": _section(dict, {"grace": _duration}),
    "labels": _section(dict, {"tags": _tag_labels}),
    "max_age": _list_of(_max_age, tuple),
    "state_file": _state_file,
}
