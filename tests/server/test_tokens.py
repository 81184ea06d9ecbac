"""The token file, what listens where, and TLS."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from perdure.errors import UsageError
from perdure.server import Tokens, check_exposure, make_token, read_tokens
from tests.server._process import BOTH, ROOT, WIKI, Served
from tests.server.models import Wiki

A, B = "a" * 32, "b" * 32


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file_has_a_line_for_each_token(tmp_path: Path) -> None:
    tokens = read_tokens(write(tmp_path / "t", f"# for us\nread {A} alice\n\nread,write {B}\n"))
    alice, other = tokens.find(A), tokens.find(B)
    assert alice is not None
    assert other is not None
    assert (alice.name, alice.scopes) == ("alice", {"read"})
    assert other.scopes == {"read", "write"}
    assert B not in other.name
    assert tokens.find("c" * 32) is None
    assert tokens.find("") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "t", f"read {A}\n", mode)
    with pytest.raises(UsageError, match="others") as caught:
        read_tokens(path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "read\n", "admin " + A, "read short", f"read {A} name more", f"read {A}\nwrite {A}\n",
     "read \u00fc" * 20, f", {A}"],
    ids=range(9),
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_without_showing_a_token(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_tokens(write(tmp_path / "t", text))
    assert A not in str(caught.value)


def test_a_missing_file_and_a_link_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_tokens(str(tmp_path / "nothing"))
    write(tmp_path / "t", f"read {A}\n")
    (tmp_path / "link").symlink_to(tmp_path / "t")
    with pytest.raises(UsageError):
        read_tokens(str(tmp_path / "link"))
    with pytest.raises(UsageError):
        read_tokens(str(tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org"])
def test_nobody_listens_beyond_loopback_without_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        check_exposure(host, Tokens())
    check_exposure(host, Tokens([make_token(A)]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "[::1]"])
def test_loopback_needs_no_token(host: str) -> None:
    check_exposure(host, Tokens())


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure", "serve", WIKI, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_refuses_before_it_makes_anything(tmp_path: Path) -> None:
    where = tmp_path / "wiki"
    done = serve("--dir", str(where), "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "there is no token" in done.stderr
    assert not where.exists()
    path = write(tmp_path / "t", f"read {A}\n", 0o644)
    done = serve("--dir", str(where), "--token-file", path)
    assert done.returncode == 2
    assert f"chmod 600 {path}" in done.stderr
    assert not where.exists()


@pytest.mark.parametrize("options", [("--tls-cert", "x"), ("--tls-cert", "nothing", "--tls-key", "nothing")])
def test_tls_takes_a_certificate_and_its_key(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = serve("--dir", str(tmp_path / "wiki"), "--port", "0", *options)
    assert done.returncode == 2
    assert "certificate" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_in_use_is_an_error_that_says_so(served: Served, tmp_path: Path) -> None:
    done = serve("--dir", str(tmp_path / "wiki"), "--port", str(served.port))
    assert done.returncode == 2
    assert "cannot listen" in done.stderr


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signs itself."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    os.chmod(key_path, 0o600)
    return str(cert_path), str(key_path)


def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with Served(tmp_path, "--tls-cert", cert, "--tls-key", key) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=cert)
        with perdure.connect(Wiki, server.url, token=BOTH, tls=trusting, timeout=30) as wiki:
            assert wiki.write("a") == 1
            assert wiki.names() == ["a"]
        wary = perdure.connect(Wiki, server.url, token=BOTH, timeout=1.5)
        with wary, pytest.raises(perdure.UnreachableError, match="certificate"):
            wary.names()
        plain = perdure.connect(Wiki, server.url.replace("https", "http"), token=BOTH, timeout=1.5)
        with plain, pytest.raises(perdure.RemoteError):
            plain.names()
