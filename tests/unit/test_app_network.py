"""The settings of the HTTP layer: what they accept, and the one sentence for what they do not."""

import pytest

from app.network import Network, host_name


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests."""
    for name in ("ALLOWED_HOSTS", "CORS_ORIGINS", "FRAME_ANCESTORS", "TRUSTED_PROXIES", "MAX_CONNECTIONS"):
        monkeypatch.delenv(f"MANASIGHT_{name}", raising=False)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8501",
        "localhost.",
        "127.0.0.1:8501",
        "10.42.0.7:8501",
        "[::1]:8501",
        "[fe80::1%25eth0]",
        "app:8501",
        "app.manasight.svc.cluster.local:8501",
        "app.manasight.svc",
        "cards.internal",
        "a.localhost",
    ],
)
def test_addresses_and_private_names_are_answered_by_default(host: str) -> None:
    assert Network().allows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8501",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "local host",
        "",
        ":8501",
        "[::1",
        "[evil.example]",
        "::1",
        "localhost:port",
        "ä",
        "*",
        "notcluster.local.evil",
        "evilcluster.local",
        "localhost\\",
        "a" * 70000 + ".com",
    ],
)
def test_other_and_malformed_names_are_refused(host: str) -> None:
    assert not Network().allows_host(host)


@pytest.mark.parametrize(
    ("allowed", "host", "answer"),
    [
        ("cards.example.com", "Cards.Example.com:443", True),
        ("cards.example.com", "other.example.com", False),
        ("*.example.com", "cards.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("*", "anything.example", True),
        (" a.example , b.example ,", "b.example", True),
    ],
)
def test_listed_names_are_answered(allowed: str, host: str, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANASIGHT_ALLOWED_HOSTS", allowed)

    assert Network.from_environment().allows_host(host) is answer


def test_a_host_header_is_split_from_its_port() -> None:
    assert [host_name(text) for text in ("A.example:80", "[::1]:80", "1.2.3.4", "a:b:c")] == [
        "a.example",
        "::1",
        "1.2.3.4",
        None,
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALLOWED_HOSTS", "https://cards.example.com", "host names such as app.example.com"),
        ("ALLOWED_HOSTS", "cards.example.com:8501", "without scheme and port"),
        ("CORS_ORIGINS", "shop.example", "origins such as https://shop.example"),
        ("CORS_ORIGINS", "https://shop.example/", "without a path"),
        ("CORS_ORIGINS", "null", "origins such as https://shop.example"),
        ("CORS_ORIGINS", "https://*.example", "not 'https://*.example'"),
        ("CORS_ORIGINS", "*,https://shop.example", "must be * alone"),
        ("FRAME_ANCESTORS", "https://a.example; script-src *", "MANASIGHT_FRAME_ANCESTORS must list origins"),
        ("TRUSTED_PROXIES", "proxy", "addresses or networks such as 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "*", "not '*'"),
        ("MAX_CONNECTIONS", "many", "whole number from 1"),
        ("MAX_CONNECTIONS", "0", "not '0'"),
        ("METRICS_PORT", "70000", "whole number from 1 to 65535"),
    ],
)
def test_a_wrong_value_is_one_sentence(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MANASIGHT_{name}", value)

    with pytest.raises(SystemExit) as raised:
        Network.from_environment()

    assert said in str(raised.value)
    assert f"MANASIGHT_{name}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_origins_are_compared_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANASIGHT_CORS_ORIGINS", "HTTPS://Shop.example:443, http://localhost:3000,http://[::1]:80")

    assert Network.from_environment().cors_origins == (
        "https://shop.example",
        "http://localhost:3000",
        "http://[::1]",
    )


def test_only_listed_proxies_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANASIGHT_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    found = Network.from_environment()

    assert found.trusts("10.1.2.3")
    assert found.trusts("::1")
    assert not found.trusts("127.0.0.1")
    assert not found.trusts("")
    assert not Network().trusts("127.0.0.1")
