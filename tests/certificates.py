"""Certificates made for a test: two CAs, and the certificates that they signed."""

import subprocess
from pathlib import Path

PAST = ("20200101000000Z", "20200102000000Z")
FUTURE = ("20400101000000Z", "20410101000000Z")
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificates:
    """PEM files in a folder: `ca.pem` and `other.pem` are CAs, `NAME.pem` and `NAME.key` a certificate and
    its key. All but "elsewhere" are for 127.0.0.1, localhost and nats.example.org."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = "IP:127.0.0.1,DNS:localhost,DNS:nats.example.org,email:dashboard@example.com"
        (folder / "here").write_text(f"subjectAltName={names}")
        (folder / "elsewhere").write_text("subjectAltName=DNS:elsewhere.example.com")
        for ca in ("ca", "other"):
            usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
            files = ("-keyout", f"{ca}.key", "-out", f"{ca}.pem")
            self._openssl("req", "-x509", *EC, "-days", "2", "-subj", f"/CN={ca}", *usage, *files)
        for name in ("server", "client"):
            self._make(name)
        self._make("foreign", ca="other")
        self._make("elsewhere", place="elsewhere")
        self._make("expired", dates=PAST)
        self._make("not-yet", dates=FUTURE)

    def path(self, name: str) -> str:
        """The path of a file."""
        return str(self.folder / name)

    def tls(self, name: str = "server", more: str = "") -> str:
        """The TLS block of a server's configuration, with the certificate `name`, and `more` in it."""
        files = f'cert_file: "{self.path(name)}.pem", key_file: "{self.path(name)}.key"'
        return f'tls {{ {files}, ca_file: "{self.path("ca.pem")}", timeout: 5, {more} }}'

    def _make(
        self, name: str, *, ca: str = "ca", place: str = "here", dates: tuple[str, str] | None = None
    ) -> None:
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("req", *EC, "-subj", f"/CN={name}", *request)
        # Before version 3.4, `openssl x509` takes no dates; `openssl ca` does, but needs a database.
        (self.folder / "index").write_text("")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\n"
            "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
        )
        when = ("-startdate", dates[0], "-enddate", dates[1]) if dates else ("-days", "2")
        signer = ("-config", "ca.cnf", "-cert", f"{ca}.pem", "-keyfile", f"{ca}.key", "-extfile", place)
        self._openssl("ca", "-batch", "-notext", *signer, "-in", f"{name}.csr", "-out", f"{name}.pem", *when)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
