from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.config.yaml_document import ConfigError
from exporter.web.config import Tls, load_web_config
from exporter.web.settings import WebSettings
from tests.support.certificates import Authority

HASH = "$2y$10$" + "a" * 53
PAIR = "cert_file: server.crt, key_file: server.key"

GOOD = [
    "",
    "# nothing yet\n",
    "~\n",
    "tls_server_config:\n",
    "tls_server_config: {}\n",
    'tls_server_config: {cert_file: "", key_file: "", client_auth_type: ""}\n',
    "tls_server_config: {min_version: TLS13}\n",
    f"tls_server_config: {{{PAIR}}}\n",
    f"tls_server_config: {{{PAIR}, min_version: TLS12, max_version: TLS12}}\n",
    f"tls_server_config: {{{PAIR}, client_auth_type: NoClientCert}}\n",
    f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt, client_auth_type: VerifyClientCertIfGiven}}\n",
    f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}}\n",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}\n",
    "basic_auth_users:\n",
    "basic_auth_users: {}\n",
    f"basic_auth_users: {{alice: {HASH}, '': {HASH}, 123: {HASH}, 'a:b': {HASH}, '\\u00e9': {HASH}}}\n",
    f"basic_auth_users: {{alice: $2a$04${'a' * 53}, bob: $2b$31${'a' * 53}}}\n",
    "http_server_config:\n",
    "http_server_config: {headers: }\n",
    "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff, X-XSS-Protection: 0}}\n",
    "http_server_config: {headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: max-age=1}}\n",
    "http_server_config: {headers: {Content-Security-Policy: default-src 'none', X-XSS-Protection: ''}}\n",
    "http_server_config: {headers: {X-XSS-Protection: ~, Strict-Transport-Security: }}\n",
]

BAD = {
    "- a\n": "a list is not a mapping; write its keys below it, indented",
    "a\n": '"a" is not a mapping; write its keys below it, indented',
    "tls_server_config: [\n": "not YAML at line 2, column 1",
    "tls_server_config: {}\ntls_server_config: {}\n": "tls_server_config: written twice, first in line 1; keep one",
    "tls_servers_config: {}\n": "tls_servers_config: unknown key; did you mean tls_server_config?",
    "zzz: 1\n": "zzz: unknown key; the keys here are tls_server_config, http_server_config, basic_auth_users",
    "tls_server_config: 1\n": "tls_server_config: 1 is not a mapping",
    "tls_server_config: {cert_file: server.crt}\n": "tls_server_config.key_file: missing; TLS needs",
    "tls_server_config: {key_file: server.key}\n": "tls_server_config.cert_file: missing; TLS needs",
    "tls_server_config: {client_auth_type: RequireAndVerifyClientCert}\n": "tls_server_config.cert_file: missing",
    "tls_server_config: {client_auth_type: NoClientCert}\n": "tls_server_config.cert_file: missing",
    "tls_server_config: {cert_file: [server.crt]}\n": "tls_server_config.cert_file: a list is not a string",
    'tls_server_config: {cert_file: "a\\0b"}\n': "tls_server_config.cert_file: the string holds the character U+0000",
    f"tls_server_config: {{{PAIR}, client_ca_file: ca.crt}}\n": "tls_server_config.client_auth_type: client_ca_file is",
    f"tls_server_config: {{{PAIR}, client_auth_type: Please}}\n": '"Please" is not a client_auth_type; write',
    f"tls_server_config: {{{PAIR}, min_version: TLS14}}\n": '"TLS14" is not a version of TLS; write TLS12 or TLS13',
    f"tls_server_config: {{{PAIR}, min_version: 1.2}}\n": '"1.2" is not a version of TLS',
    f'tls_server_config: {{{PAIR}, max_version: ""}}\n': '"" is not a version of TLS',
    "tls_server_config: {cert_file: gone.crt, key_file: server.key}\n": "gone.crt)",
    "tls_server_config: {cert_file: server.crt, key_file: gone.key}\n": "key_file: the file does not exist; put it",
    "tls_server_config: {cert_file: server.key, key_file: server.key}\n": "cert_file: the file holds no certificate",
    "tls_server_config: {cert_file: server.crt, key_file: server.crt}\n": "key_file: the file holds no private key",
    "tls_server_config: {cert_file: server.crt, key_file: other.key}\n": "key_file: the key is not that of",
    "tls_server_config: {cert_file: server.crt, key_file: locked.key}\n": "the key is encrypted; write it without",
    "tls_server_config: {cert_file: broken.crt, key_file: server.key}\n": "certificate or key cannot be used",
    "tls_server_config: {cert_file: ., key_file: server.key}\n": "cert_file: this is not a regular file",
    f"tls_server_config: {{{PAIR}, client_ca_file: gone, client_auth_type: RequireAndVerifyClientCert}}\n": "gone)",
    "basic_auth_users: [alice]\n": "basic_auth_users: a list is not a mapping",
    "basic_auth_users: alice\n": 'basic_auth_users: "alice" is not a mapping',
    "basic_auth_users: {alice: }\n": "basic_auth_users.alice: not a bcrypt hash; make one with: htpasswd -nBC 10 NAME",
    "basic_auth_users: {alice: hunter2}\n": "basic_auth_users.alice: not a bcrypt hash",
    f"basic_auth_users: {{alice: $2y$03${'a' * 53}}}\n": "basic_auth_users.alice: not a bcrypt hash",
    f"basic_auth_users: {{alice: $2y$32${'a' * 53}}}\n": "basic_auth_users.alice: not a bcrypt hash",
    f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}\n": "basic_auth_users.alice: written twice",
    "http_server_config: {headers: {X-Powered-By: me}}\n": "headers.X-Powered-By: unknown key; the keys here are",
    "http_server_config: {headers: {x-frame-options: deny}}\n": "unknown key; did you mean X-Frame-Options?",
    "http_server_config: {headers: {X-Frame-Options: DENY}}\n": '"DENY" is not allowed here; write deny or sameorigin',
    "http_server_config: {headers: {X-Frame-Options: ''}}\n": '"" is not allowed here; write deny or sameorigin',
    "http_server_config: {headers: {X-Frame-Options: ~}}\n": '"" is not allowed here; write deny or sameorigin',
    "http_server_config: {headers: {X-Content-Type-Options: }}\n": '"" is not allowed here; write nosniff',
    "http_server_config: {headers: {X-Content-Type-Options: sniff}}\n": '"sniff" is not allowed here; write nosniff',
    "http_server_config: {tls: {}}\n": "http_server_config.tls: unknown key",
}

REFUSED = {
    "{}: {}\n": "a mapping cannot be a key; write a word",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequestClientCert}}\n": "RequestClientCert lets clients in with",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}\n": "certificates that nobody verifies",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequireClientCert}}\n": "certificates that nobody verifies",
    f"tls_server_config: {{{PAIR}, min_version: TLS10}}\n": "TLS10 is not secure and not supported here",
    f"tls_server_config: {{{PAIR}, min_version: TLS11}}\n": "TLS11 is not secure and not supported here",
    f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}\n": "min_version: above max_version",
    f"tls_server_config: {{{PAIR}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}\n": "cipher_suites: not supported here",
    f"tls_server_config: {{{PAIR}, curve_preferences: [X25519]}}\n": "curve_preferences: not supported here",
    f"tls_server_config: {{{PAIR}, prefer_server_cipher_suites: false}}\n": "is always the server's",
    "http_server_config: {http2: true}\n": "the exporter speaks HTTP/1.1. Write false or take it out",
    'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nSet-Cookie: b"}}\n': "the character U+000D",
    f"tls_server_config: {{{PAIR}, client_ca_file: server.key, client_auth_type: VerifyClientCertIfGiven}}\n": (
        "client_ca_file: the file holds no certificate"
    ),
    f"basic_auth_users: {{alice: {HASH}b}}\n": "basic_auth_users.alice: not a bcrypt hash",
    f"basic_auth_users: {{alice: $2$10${'a' * 53}}}\n": "basic_auth_users.alice: not a bcrypt hash",
}
"""What the toolkit takes and we refuse, each with a word of why."""

NEWER = {
    "rate_limit: {interval: 1s, burst: 20}\n": "rate_limit: not supported here",
    f"tls_server_config: {{{PAIR}, cert: text}}\n": "cert: not supported here; put it into a file and name the file in",
    "tls_server_config: {cert_file: server.crt, key: text}\n": "tls_server_config.key: not supported here; put it",
    f"tls_server_config: {{{PAIR}, client_ca: text}}\n": "tls_server_config.client_ca: not supported here",
    f"tls_server_config: {{{PAIR}, client_allowed_sans: [a]}}\n": "client_allowed_sans: not supported here; let",
}
"""Keys that only newer toolkits know than the one that may be installed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    authority = Authority()
    authority.write(folder, "ca")
    server = authority.issue()
    server.write(folder, "server")
    authority.issue().write(folder, "other")
    (folder / "locked.key").write_bytes(server.encrypted_key(b"secret"))
    (folder / "broken.crt").write_bytes(server.cert[:200] + b"\n-----END CERTIFICATE-----\n")
    return folder


def written(folder: Path, text: str) -> Path:
    file = folder / "web.yml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", GOOD)
def test_what_is_good(folder: Path, text: str) -> None:
    """A file of the keys that are supported is taken, certificates and all."""
    WebSettings(written(folder, text))


@pytest.mark.parametrize(("text", "said"), [*BAD.items(), *REFUSED.items(), *NEWER.items()])
def test_what_is_not(folder: Path, text: str, said: str) -> None:
    """A mistake, and a key that is not supported, is an error of one line that says where and what to do."""
    file = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        WebSettings(file)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems
    for problem in caught.value.problems:
        assert str(file) in problem
        assert "\n" not in problem
        assert "hunter2" not in problem
        assert "aaa" not in problem


def test_promtool_agrees(folder: Path, tool: Callable[[str], str]) -> None:
    """Prometheus's own check takes what is taken here, refuses what is wrong, and takes what is only not supported."""
    texts = [*GOOD, *BAD, *REFUSED]
    files = [folder / f"{number}.yml" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    check = [tool("promtool"), "check", "web-config", *map(str, files)]
    told = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False).stderr
    taken = [text for file, text in zip(files, texts, strict=True) if f"{file} SUCCESS\n" in told]
    assert taken == [*GOOD, *REFUSED]


def test_all_mistakes_are_reported_at_once(folder: Path) -> None:
    """All mistakes of a file come in its order, each with its line."""
    file = written(
        folder,
        "tls_server_config:\n  min_version: TLS9\n  http2: true\nbasic_auth_users:\n  bob: b\nrate_limit: {}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_web_config(file)
    places = [(problem.partition(":")[0], problem.rpartition(":")[2].rstrip(")")) for problem in caught.value.problems]
    assert places == [
        ("tls_server_config.min_version", "2"),
        ("tls_server_config.http2", "3"),
        ("basic_auth_users.bob", "5"),
        ("rate_limit", "6"),
    ]


def test_paths_are_relative_to_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path is relative to the file that names it."""
    monkeypatch.chdir(tmp_path)
    config = load_web_config(
        written(folder, "tls_server_config: {cert_file: x/server.crt, key_file: /etc/server.key}\n")
    )
    assert config.tls == Tls(folder / "x/server.crt", Path("/etc/server.key"))
    WebSettings(written(folder, f"tls_server_config: {{{PAIR}}}\n"))


def test_tls_is_at_least_1_2(folder: Path) -> None:
    """Without configured versions it is TLS 1.2 or 1.3."""
    config = load_web_config(written(folder, f"tls_server_config: {{{PAIR}}}\n"))
    assert config.tls is not None
    assert (config.tls.min_version, config.tls.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def test_what_is_perhaps_not_meant_is_noted(folder: Path) -> None:
    """A TLS section that turns nothing on, and clients let in by anybody's certificates, are allowed and noted."""
    assert "TLS is off" in WebSettings(written(folder, "tls_server_config: {min_version: TLS13}\n")).notes[0]
    open_to_all = f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}\n"
    assert "any public CA" in WebSettings(written(folder, open_to_all)).notes[0]
    assert WebSettings(written(folder, f"tls_server_config: {{{PAIR}}}\n")).notes == ()


def test_hashes_do_not_show(folder: Path) -> None:
    """The representation of a configuration holds no hash."""
    config = load_web_config(written(folder, f"basic_auth_users: {{alice: {HASH}}}\n"))
    assert config.users == {"alice": HASH}
    assert "aaa" not in repr(config)


def test_a_blank_header_is_not_sent(folder: Path) -> None:
    """A header is sent as it is written; a blank one is not sent."""
    text = "http_server_config: {headers: {X-XSS-Protection: 0, Content-Security-Policy: '', X-Frame-Options: deny}}\n"
    assert load_web_config(written(folder, text)).headers == {"X-XSS-Protection": "0", "X-Frame-Options": "deny"}


def test_a_file_that_is_none(folder: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ConfigError, match="the file does not exist"):
        WebSettings(folder / "gone.yml")


def test_keys_that_ask_for_what_is_done_anyway_are_accepted(tmp_path: Path) -> None:
    """`http2: false` and `prefer_server_cipher_suites: true` change nothing, and are no error."""
    file = tmp_path / "web.yml"
    file.write_text(
        "http_server_config: {http2: false}\n" + f"tls_server_config: {{{PAIR}, prefer_server_cipher_suites: true}}\n"
    )
    assert load_web_config(file).tls is not None
