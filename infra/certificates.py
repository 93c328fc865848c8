"""Certificates of a cluster whose every connection is encrypted and whose every member has proved who it is.

Dask speaks TLS, but brings no certificates. Here they are made once, from an authority of one's own that signs nothing
else: whoever holds a certificate of it belongs to the cluster, everybody else is turned away. Each role has its own,
and a client's is none for a server: a stolen client certificate cannot pose as the scheduler. Dask does not compare
names with hosts (it expects an authority of the cluster's own); the hosts stand in the certificates for whatever does.

A process keeps the certificates that it started with. After a renewal, copy the files and restart one machine at a
time: old and new ones trust each other as long as the old ones last.

Guards against a cluster that anyone on the network can hand code to, against keys that others can read, against an
authority that is overwritten (every certificate out there would be void), and against half a set of new certificates.
"""

import datetime
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.errors import InfraError, one_line

ROLES = ("scheduler", "worker", "client")
AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
"""A year and a month: renewed once a year, with time to notice that it was forgotten."""
DASK_FILE = "dask.yaml"
_CA, _CA_KEY = "ca.pem", "ca-key.pem"
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_BACKDATED = datetime.timedelta(hours=1)  # for machines whose clocks are behind
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_USES = {"scheduler": [_SERVER, _CLIENT], "worker": [_SERVER, _CLIENT], "client": [_CLIENT]}


@dataclass(frozen=True, slots=True)
class Certificates:
    """What lies in a directory of certificates.

    Attributes:
        directory: where the files are; a machine gets `ca.pem`, `dask.yaml` and one role's file, never `ca-key.pem`.
        dask_file: Dask's settings that name them; `DASK_CONFIG` points to it on every machine.
        expires_at: when the certificates of the roles end, UTC.
    """

    directory: Path
    dask_file: Path
    expires_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(directory: Path, hosts: Sequence[str], installed: Path | None = None) -> Certificates:
    """Makes an authority, a certificate for each role, and Dask's settings.

    Args:
        directory: where to; made if need be, readable by its owner only.
        hosts: names and addresses of the machines, at least one.
        installed: the folder in which the machines will have the files, which Dask's settings name; default: here.

    Raises:
        InfraError: there is an authority already, a host is not one, or the directory cannot be written.
    """
    names = _names(hosts)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = [name for name in (_CA, _CA_KEY) if (directory / name).exists()]
        if there:
            advice = "renew its certificates" if len(there) == 2 else "half of one is here: use another directory"
            raise InfraError(f"{directory / there[0]}: an authority is never overwritten; {advice}")
        authority = _new_authority()
        _write(directory / _CA_KEY, _key_bytes(authority.key), secret=True)
        _write(directory / _CA, authority.certificate.public_bytes(serialization.Encoding.PEM))
        settings = _dask_settings((installed or directory).absolute())
        _write(directory / DASK_FILE, yaml.safe_dump(settings, sort_keys=False).encode())
        return _issue(directory, authority, names)
    except OSError as error:
        raise InfraError(f"{directory}: the certificates cannot be written: {one_line(error)}") from error


def renew_certificates(directory: Path, hosts: Sequence[str] = ()) -> Certificates:
    """Makes new keys and certificates for the roles, of the authority that is there; Dask's settings stay.

    Args:
        directory: what `make_certificates` wrote, with the authority's key.
        hosts: names and addresses of the machines; none: those of the scheduler's certificate.

    Raises:
        InfraError: there is no authority, it has ended or its files do not fit, or nothing can be written.
    """
    try:
        authority = _read_authority(directory)
        names = _names(hosts) if hosts else _names_of(directory / "scheduler.pem")
        return _issue(directory, authority, names)
    except OSError as error:
        raise InfraError(f"{directory}: the certificates cannot be renewed: {one_line(error)}") from error


def _issue(directory: Path, authority: _Authority, names: Sequence[x509.GeneralName]) -> Certificates:
    """Makes all of them before the first is replaced; key and certificate are one file, so that they always fit."""
    now = datetime.datetime.now(datetime.UTC)
    ends = min(now + datetime.timedelta(days=LEAF_DAYS), authority.certificate.not_valid_after_utc)
    made: dict[str, bytes] = {}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(f"stakeweight {role}", key, now, ends).issuer_name(authority.certificate.subject)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(_USES[role]), critical=False)
            .add_extension(_key_usage(), critical=True)
            .add_extension(_issuer_of(authority), critical=False)
        )
        signed = builder.sign(authority.key, hashes.SHA256())
        made[role] = _key_bytes(key) + signed.public_bytes(serialization.Encoding.PEM)
    for role, pair in made.items():
        _write(directory / f"{role}.pem", pair, secret=True)
    return Certificates(directory, directory / DASK_FILE, ends)


def _dask_settings(directory: Path) -> Mapping[str, object]:
    """Dask reads the file of the role that it plays, and only then: the others need not be on the machine."""
    roles = {role: {"cert": str(directory / f"{role}.pem")} for role in ROLES}
    tls = {"ca-file": str(directory / _CA), "min-version": 1.3, **roles}
    return {"distributed": {"comm": {"require-encryption": True, "default-scheme": "tls", "tls": tls}}}


def _new_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP384R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = _builder("stakeweight cluster authority", key, now, now + datetime.timedelta(days=AUTHORITY_DAYS))
    builder = (
        builder.issuer_name(_name("stakeweight cluster authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    return _Authority(builder.sign(key, hashes.SHA384()), key)


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    """What every certificate has but its issuer and its uses."""
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _read_authority(directory: Path) -> _Authority:
    for name in (_CA, _CA_KEY):
        if not (directory / name).is_file():
            raise InfraError(f"{directory / name}: there is no authority to renew from; make the certificates first")
    try:
        certificate = x509.load_pem_x509_certificate((directory / _CA).read_bytes())
        key = serialization.load_pem_private_key((directory / _CA_KEY).read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise InfraError(f"{directory}: the authority's files cannot be read: {one_line(error)}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InfraError(f"{directory / _CA_KEY}: must be the key of {_CA}, found another one")
    if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        raise InfraError(
            f"{directory / _CA}: ended on {certificate.not_valid_after_utc:%Y-%m-%d}; make a new authority"
        )
    return _Authority(certificate, key)


def _names_of(path: Path) -> list[x509.GeneralName]:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, OSError, x509.ExtensionNotFound) as error:
        raise InfraError(f"{path}: its hosts cannot be read, name them: {one_line(error)}") from error


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    if not hosts:
        raise InfraError("certificates need at least one host, a name or an address, found none")
    return [_general_name(host) for host in hosts]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        labels = host.removeprefix("*.").split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise InfraError(f"{host!r}: must be the name or the address of a host")
    return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _issuer_of(authority: _Authority) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())


def _key_usage(authority: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()  # services start without a person; the file's mode protects it
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _write(path: Path, data: bytes, secret: bool = False) -> None:
    """Replaces a file as a whole; a secret is never readable by others, not even for a moment."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
