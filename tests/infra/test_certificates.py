"""Certificates, judged by OpenSSL on real connections and by the program `openssl`, and by Dask itself."""

import datetime
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import dask
import pytest
import yaml
from distributed.security import Security

from infra.certificates import LEAF_DAYS, ROLES, make_certificates, renew_certificates
from infra.errors import InfraError

HOSTS = ("127.0.0.1", "scheduler.internal", "::1", "*.workers.internal")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_certificates(tmp_path / "certificates", HOSTS).directory


def openssl(*arguments: str) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def talk(folder: Path, server: str, client: str | None, name: str) -> str:
    """Connects two roles over loopback as strictly as OpenSSL can; returns what the client was told."""
    listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    listening.verify_mode = ssl.CERT_REQUIRED
    listening.load_cert_chain(folder / f"{server}.pem")
    connecting = ssl.create_default_context(cafile=str(folder / "ca.pem"))  # also compares the name
    if client is not None:
        connecting.load_cert_chain(client if "/" in client else folder / f"{client}.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer, args=(listener, listening))
        answering.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                connecting.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                return wrapped.recv(10).decode()
        finally:
            answering.join()


def _answer(listener: socket.socket, context: ssl.SSLContext) -> None:
    plain, _ = listener.accept()
    with plain:
        plain.settimeout(10)
        try:
            with context.wrap_socket(plain, server_side=True) as wrapped:
                wrapped.sendall(b"hello")
        except (ssl.SSLError, OSError):
            return


@pytest.mark.parametrize("name", ["127.0.0.1", "scheduler.internal", "a.workers.internal"])
@pytest.mark.parametrize(("server", "client"), [("scheduler", "worker"), ("scheduler", "client"), ("worker", "worker")])
def test_make_certificates__roles_that_belong_together_can_talk(
    made: Path, server: str, client: str, name: str
) -> None:
    assert talk(made, server, client, name) == "hello"


def test_make_certificates__a_stranger_cannot_talk_to_the_scheduler(made: Path, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path / "other", HOSTS).directory
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(made, "scheduler", str(stranger / "client.pem"), "127.0.0.1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(made, "scheduler", None, "127.0.0.1")


def test_make_certificates__a_client_certificate_is_none_for_a_server(made: Path) -> None:
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        talk(made, "client", "worker", "127.0.0.1")


def test_make_certificates__another_host_is_noticed(made: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'elsewhere'"):
        talk(made, "scheduler", "client", "elsewhere")


def test_make_certificates__openssl_finds_the_chain_the_names_and_no_authority_in_a_role(made: Path) -> None:
    for role in ROLES:
        path = str(made / f"{role}.pem")
        assert openssl("verify", "-x509_strict", "-CAfile", str(made / "ca.pem"), path) == f"{path}: OK\n"
        text = openssl("x509", "-in", path, "-noout", "-text")
        for shown in ("IP Address:127.0.0.1", "DNS:scheduler.internal", "CA:FALSE", "prime256v1"):
            assert shown in text


def test_make_certificates__secrets_can_be_read_by_their_owner_only(made: Path) -> None:
    for name in ("ca-key.pem", *(f"{role}.pem" for role in ROLES)):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600, name
        assert "PRIVATE KEY" in (made / name).read_text()
    assert "PRIVATE KEY" not in (made / "ca.pem").read_text()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert not list(made.glob(".*"))  # no half-written file is left


def test_make_certificates__says_how_long_they_last(made: Path, tmp_path: Path) -> None:
    ends = make_certificates(tmp_path / "again", HOSTS).expires_at
    days = (ends - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1)
    assert LEAF_DAYS - 1 < days <= LEAF_DAYS
    stated = openssl("x509", "-in", str(tmp_path / "again" / "worker.pem"), "-noout", "-enddate")
    assert f"{ends:%b %e %H:%M:%S %Y} GMT" in stated


def _settings(made: Path) -> Mapping[str, object]:
    return dask.config.merge(dask.config.config, yaml.safe_load((made / "dask.yaml").read_text()))


def test_make_certificates__dask_accepts_its_settings_and_demands_encryption(made: Path) -> None:
    with dask.config.set(_settings(made)):
        security = Security()
        assert security.require_encryption is True
        for role in ROLES:
            for context in (security.get_connection_args(role), security.get_listen_args(role)):
                assert context["ssl_context"].verify_mode == ssl.CERT_REQUIRED
                assert context["ssl_context"].minimum_version == ssl.TLSVersion.TLSv1_3


def test_make_certificates__a_role_needs_no_file_of_another(made: Path) -> None:
    for other in ("scheduler", "worker"):
        (made / f"{other}.pem").unlink()
    with dask.config.set(_settings(made)):
        assert Security().get_connection_args("client")["ssl_context"] is not None


def test_make_certificates__names_the_folder_where_machines_have_the_files(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS, Path("/etc/stakeweight/tls"))
    tls = yaml.safe_load((tmp_path / "dask.yaml").read_text())["distributed"]["comm"]["tls"]
    assert tls["ca-file"] == "/etc/stakeweight/tls/ca.pem"
    assert {role: tls[role]["cert"] for role in ROLES} == {role: f"/etc/stakeweight/tls/{role}.pem" for role in ROLES}


def test_make_certificates__never_overwrites_an_authority(made: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    with pytest.raises(InfraError, match=r"ca\.pem: an authority is never overwritten; renew its certificates$"):
        make_certificates(made, HOSTS)
    (made / "ca.pem").unlink()
    with pytest.raises(InfraError, match=r"ca-key\.pem: .* half of one is here: use another directory$"):
        make_certificates(made, HOSTS)
    del before["ca.pem"]
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([], "need at least one host"),
        (["a b"], "'a b': must be the name or the address of a host"),
        (["https://a.org"], "must be the name or the address"),
        ([""], "'': must be"),
        (["-"], "'-': must be"),
        (["a" * 64], "must be the name"),
    ],
)
def test_make_certificates__refuses_what_is_no_host_and_writes_nothing(
    tmp_path: Path, hosts: list[str], message: str
) -> None:
    with pytest.raises(InfraError, match=message) as caught:
        make_certificates(tmp_path / "new", hosts)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_make_certificates__a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfraError, match=r"file/new: the certificates cannot be written: .*Not a directory"):
        make_certificates(tmp_path / "file" / "new", HOSTS)


def test_renew_certificates__new_ones_and_old_ones_talk_to_each_other(made: Path, tmp_path: Path) -> None:
    old = shutil.copytree(made, tmp_path / "old")
    renew_certificates(made)
    for name in ("ca.pem", "ca-key.pem", "dask.yaml"):
        assert (made / name).read_bytes() == (old / name).read_bytes()
    for role in ROLES:
        assert (made / f"{role}.pem").read_bytes() != (old / f"{role}.pem").read_bytes()
    assert talk(made, "scheduler", str(old / "client.pem"), "scheduler.internal") == "hello"
    assert talk(old, "scheduler", str(made / "client.pem"), "scheduler.internal") == "hello"


def test_renew_certificates__can_name_other_hosts(made: Path) -> None:
    renew_certificates(made, ["moved.internal"])
    assert talk(made, "scheduler", "client", "moved.internal") == "hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(made, "scheduler", "client", "scheduler.internal")


def test_renew_certificates__needs_the_authority_and_its_own_key(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=r"nowhere/ca\.pem: there is no authority to renew from"):
        renew_certificates(tmp_path / "nowhere")
    other = make_certificates(tmp_path / "other", HOSTS).directory
    shutil.copy(other / "ca-key.pem", made / "ca-key.pem")
    before = (made / "worker.pem").read_bytes()
    with pytest.raises(InfraError, match=r"ca-key\.pem: must be the key of ca\.pem, found another one$"):
        renew_certificates(made)
    (made / "ca-key.pem").write_text("no key")
    with pytest.raises(InfraError, match="the authority's files cannot be read"):
        renew_certificates(made)
    assert (made / "worker.pem").read_bytes() == before
