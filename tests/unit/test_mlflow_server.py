"""Reaching MLflow and S3: private certificates, proxies, and a sentence for each kind of fault."""

import os
import subprocess
import sys

import pytest
import smoke
from private_ca import answering, make_certificates

from app.serving.registry import Registry, RegistryError
from contract.environment import bypass_proxies
from trainer.data.s3 import pull
from trainer.errors import UserError
from trainer.tracking.mlflow import connect
from trainer.tracking.server import wait_for_server

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no certificates and no credentials of this machine."""
    for name in os.environ:
        if name.lower() in PROXIES or name.startswith("MLFLOW_TRACKING_") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)


def ask_as_trainer(uri: str) -> None:
    wait_for_server(uri, 0)


def ask_as_app(uri: str) -> None:
    assert Registry(uri, "manasight").run_url("0123") == ""


ASK = pytest.mark.parametrize(("ask", "error"), [(ask_as_trainer, UserError), (ask_as_app, RegistryError)])


@ASK
@pytest.mark.parametrize(
    ("variable", "value"),
    [("MLFLOW_TRACKING_SERVER_CERT_PATH", "{authority}"), ("MLFLOW_TRACKING_INSECURE_TLS", "true")],
)
def test_mlflows_own_settings_of_tls_are_obeyed(ask, error, variable, value, tmp_path, monkeypatch):
    authority, context = make_certificates(tmp_path)
    # The system's bundle does not know it, and must not win over MLflow's setting.
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(make_certificates(tmp_path / "other")[0]))
    with answering(context) as (uri, asked):
        with pytest.raises(
            error, match=r"certificate of '?https://127\.0\.0\.1:\d+'? is refused .*; set MLFLOW_TRACKING_S"
        ):
            ask(uri)
        assert not asked
        monkeypatch.setenv(variable, value.format(authority=authority))
        ask(uri)
        assert asked


def test_mlflows_client_and_the_probe_use_the_same_certificate(tmp_path, monkeypatch):
    authority, context = make_certificates(tmp_path)
    with answering(context) as (uri, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority))
        connect()
        assert [line.partition("?")[0] for line in asked] == ["GET /", "POST /api/2.0/mlflow/experiments/search"]


@ASK
def test_a_certificate_for_another_name_is_no_missing_authority(ask, error, tmp_path, monkeypatch):
    authority, context = make_certificates(tmp_path, "elsewhere.example")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority))
    with (
        answering(context) as (uri, _),
        pytest.raises(error, match=r"refused .*not valid for '127\.0\.0\.1'") as raised,
    ):
        ask(uri)
    assert "CERT_PATH" not in str(raised.value)


@ASK
def test_a_certificates_file_that_is_not_there_is_named(ask, error, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "gone.pem"))
    with pytest.raises(error, match=r"gone\.pem; check MLFLOW_TRACKING_SERVER_CERT_PATH"):
        ask("https://127.0.0.1:9")


@ASK
@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://127.0.0.1:9", "nothing listens"),
        ("http://me:secret@no-such-host.invalid:5000", "name .*cannot be resolved"),
        ("https://{plain}", "TLS with .* failed.*; does it serve https"),
    ],
)
def test_every_kind_of_fault_has_its_sentence(ask, error, uri, says):
    with answering() as (plain, _), pytest.raises(error, match=says) as raised:
        ask(uri.format(plain=plain.partition("//")[2]))
    assert "secret" not in str(raised.value)


@ASK
def test_a_proxy_that_is_away_is_blamed_and_not_the_server(ask, error, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(error, match=r"proxy .* cannot be used.*add '?mlflow\.example'? to NO_PROXY") as raised:
        ask("http://mlflow.example:5000")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("status", "says"), [(407, "wants a password"), (503, "answers 503")])
def test_what_a_proxy_answers_is_not_mlflows_answer(status, says, monkeypatch):
    with answering(status=status) as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(UserError, match=says):
            ask_as_trainer("http://mlflow.example:5000")
        assert asked == ["GET http://mlflow.example:5000/"]


@pytest.mark.parametrize(
    "code",
    [
        "from trainer.tracking.mlflow import connect; connect()",
        "import os, app.serving.registry as r; r.Registry(os.environ['MLFLOW_TRACKING_URI'], 'm').run_url('0123')",
    ],
)
def test_this_machine_is_never_reached_through_a_proxy(code):
    with answering() as (proxy, trapped), answering() as (uri, asked):
        environment = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
        environment |= {"HTTP_PROXY": proxy, "http_proxy": proxy, "MLFLOW_TRACKING_URI": uri}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (done.returncode, trapped) == (0, []), done.stderr
        assert asked


def test_the_release_asks_containers_of_this_machine_without_a_proxy(monkeypatch):
    with answering() as (proxy, trapped), answering() as (uri, asked):
        monkeypatch.setenv("http_proxy", proxy)
        smoke.wait_for(uri, 5)
        assert smoke.post(uri, b"", "image/jpeg") == {}
        assert (len(asked), trapped) == (2, [])


def test_a_store_behind_a_private_authority_is_not_a_wrong_address(tmp_path, monkeypatch):
    authority, context = make_certificates(tmp_path)
    with answering(context) as (uri, asked):
        for name, value in {"AWS_ENDPOINT_URL": uri, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(UserError, match=r"CERTIFICATE_VERIFY_FAILED.*; set AWS_CA_BUNDLE"):
            pull("s3://data/cards", tmp_path / "out")
        assert not asked
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        with pytest.raises(UserError, match=r"there is nothing at|AWS_ENDPOINT_URL"):  # a server that is not a store
            pull("s3://data/cards", tmp_path / "out")
        assert asked


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "here"),
        ({"https_proxy": "http://p:1", "no_proxy": "corp.example, here"}, "corp.example,here"),
        ({"https_proxy": "http://p:1", "NO_PROXY": "*"}, "*"),
        ({}, None),  # on macOS the variable alone would hide the system's proxies
    ],
)
def test_hosts_are_added_to_those_without_a_proxy(before, after, monkeypatch):
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", os.environ.get("no_proxy", ""))  # so that it is put back
    bypass_proxies("here")
    assert (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or None) == after
