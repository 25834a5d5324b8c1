"""The proxy variables of the environment, and what curl makes of them."""

from __future__ import annotations

import httpx
import pytest

from exporter.config import proxies
from exporter.config.loading import load_environment
from exporter.config.proxies import Proxies
from exporter.config.yaml_document import ConfigError

API = "https://api.digitalocean.com"
PROXY = "http://proxy:3128"


def exempt(no_proxy: str, url: str) -> bool:
    return proxies.environment_proxies({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}).proxy_for(url) is None


@pytest.mark.parametrize(
    ("given", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": "proxy:3128/"}, PROXY),
        ({"HTTPS_PROXY": "http://proxy"}, "http://proxy:1080"),
        ({"HTTPS_PROXY": "HTTPS://proxy"}, "https://proxy:443"),
        ({"HTTPS_PROXY": "http://me:a%23b@[::1]:8080"}, "http://me:a%23b@[::1]:8080"),
    ],
)
def test_the_proxy(given: dict[str, str], proxy: str | None) -> None:
    """https_proxy before all_proxy, small letters before capitals, and curl's default ports."""
    found = proxies.environment_proxies(given).proxy_for(API)
    assert found == proxy
    if found is not None:
        httpx.Proxy(found)


def test_plain_http_is_never_sent_to_a_proxy() -> None:
    """Plain HTTP is for loopback only; a proxy would see the token."""
    assert Proxies(PROXY).proxy_for("http://127.0.0.1:8080") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", API, True),
        ("localhost, *", API, True),
        ("digitalocean.com", API, True),
        (".digitalocean.com", API, True),
        ("*.digitalocean.com", API, True),
        ("API.DigitalOcean.com.", API, True),
        ("localhost digitalocean.com", API, True),
        ("ocean.com", API, False),
        ("digitalocean.com:443", API, True),
        ("digitalocean.com:8443", API, False),
        ("digitalocean.com:8443", API + ":8443", True),
        ("localhost,[::1]", API, False),
        ("[::1]", "https://[::1]:8443", True),
        ("::1", "https://[::1]", True),
        ("[::1]:8443", "https://[::1]:8443", True),
        ("[::1]:8443", "https://[::1]", False),
        ("fd00::/8", "https://[fd12::5]", True),
        ("[fd00::]/8", "https://[fd12::5]", True),
        ("fd00::/8", "https://[fe80::5]", False),
        ("0.0.0.0/0", API, False),
        ("10.0.0.0/8,fd07:b51a:cc66::/64", "https://10.20.30.40", True),
        ("10.1.2.3/8", "https://10.20.30.40", True),
        ("10.0.0.0/8", "https://11.20.30.40", False),
        ("127.0.0.1:8443", "https://127.0.0.1:8443", True),
    ],
)
def test_exceptions(no_proxy: str, url: str, direct: bool) -> None:
    """NO_PROXY holds hosts with their subdomains, addresses, networks of both kinds, and ports; or * for all."""
    assert exempt(no_proxy, url) is direct


@pytest.mark.parametrize("no_proxy", ["localhost,[::1]", "fd07:b51a:cc66::/64", "::1/999", "http://[", "%%%"])
def test_exceptions_without_a_proxy(no_proxy: str) -> None:
    """NO_PROXY without a proxy is never an error, because tools set it in every environment."""
    config = load_environment({"DIGITALOCEAN_TOKEN": "t", "NO_PROXY": no_proxy})
    assert config.proxies == Proxies()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (
            "HTTPS_PROXY",
            "http://me:sec#ret@proxy:3128",
            "HTTPS_PROXY: the proxy's user or password holds one of @",
        ),
        ("HTTPS_PROXY", "http://me:sec@ret@proxy:3128", "write these as %40"),
        ("HTTPS_PROXY", "http://proxy:port", "HTTPS_PROXY: this is not the address of a proxy; write it like"),
        ("HTTPS_PROXY", "http://proxy:99999", "this is not the address of a proxy"),
        ("HTTPS_PROXY", "http://[fd00::zz]:1", "this is not the address of a proxy"),
        ("all_proxy", "gopher://me:secret@proxy", 'all_proxy: "gopher" is not a supported kind of proxy'),
        ("NO_PROXY", "10.0.0.0/99", 'NO_PROXY: "10.0.0.0/99" is not a host, an address or a network; write it like'),
    ],
)
def test_mistakes(variable: str, value: str, told: str) -> None:
    """A variable that cannot be understood is an error at the start that names it and shows no password."""
    with pytest.raises(ConfigError) as error:
        load_environment(
            {"DIGITALOCEAN_TOKEN": "t", "HTTPS_PROXY": PROXY, variable: value}
            if variable != "all_proxy"
            else {"DIGITALOCEAN_TOKEN": "t", variable: value}
        )
    (problem,) = error.value.problems
    assert told in problem
    assert "sec" not in problem.replace("socks", "")


def test_a_socks_proxy_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the error names the variable and how to install it; with it, httpx takes the address."""
    given = {"DIGITALOCEAN_TOKEN": "t", "ALL_PROXY": "socks5://127.0.0.1"}
    config = load_environment(given)
    assert config.proxies.proxy_for(API) == "socks5://127.0.0.1:1080"
    httpx.AsyncClient(proxy=config.proxies.proxy_for(API), trust_env=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"ALL_PROXY: .*pip install '.\[socks\]'"):
        load_environment(given)
