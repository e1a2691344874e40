"""The recipes, as far as a machine without Docker, Kubernetes and a running systemd can tell."""

import http.client
import http.server
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import ROOT, free_port
from tests.waiting import until

DEPLOY = ROOT / "deploy"


class Answer(http.server.BaseHTTPRequestHandler):
    """An app that answers with the host that it was asked as."""

    def do_GET(self) -> None:
        """Answer."""
        body = f"{self.headers['Host']} {self.headers['X-Forwarded-Proto']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def answering(port: int) -> Iterator[None]:
    """An app at a port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def nginx(folder: Path, port: int, apps: list[int]) -> Iterator[None]:
    """nginx with the example of a site, its apps, ports and files moved to here."""
    site = (DEPLOY / "nginx" / "site.conf").read_text()
    for number, app in enumerate(apps, 1):
        site = site.replace(f"app-{number}:850{number}", f"127.0.0.1:{app}").replace(
            f":850{number}$", f":{app}$"
        )
    site = site.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
        "listen 80", f"listen 127.0.0.1:{free_port()}"
    )
    site = site.replace("/etc/nginx/lookback", str(folder))
    for name in ("lookback.conf", "proxy.conf"):
        shutil.copy(DEPLOY / "nginx" / name, folder)
    (folder / "certificates").mkdir()
    key, certificate = folder / "certificates" / "privkey.pem", folder / "certificates" / "fullchain.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=dashboard",
    ]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; events {{}} http {{ access_log off; {temporary} {site} }}"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def get(port: int, cookie: str = "") -> tuple[int, str, http.client.HTTPMessage]:
    """Status, content and headers of the start page over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request("GET", "/", headers={"Host": "dashboard.example.com:8443", "Cookie": cookie})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def is_up(port: int) -> bool:
    """Whether nginx answers."""
    try:
        get(port)
    except OSError:
        return False
    return True


def test_nginx_example(tmp_path: Path) -> None:
    """nginx takes the example: the cookie is Secure and names who answered, who is gone is replaced, the app
    hears the host that the browser asked for, and where nobody answers no cookie is set."""
    port, apps = free_port(), [free_port() for _ in range(3)]
    with nginx(tmp_path, port, apps):
        until(lambda: is_up(port))
        status, _, headers = get(port)
        assert status == 502
        assert headers["Set-Cookie"] is None
        with answering(apps[1]):
            until(lambda: get(port)[0] == 200)
            for cookie in ("", "lookback=1", "lookback=4"):
                status, body, headers = get(port, cookie)
                assert (status, body) == (200, "dashboard.example.com:8443 https")
                assert headers["Set-Cookie"] == "lookback=2; Path=/; HttpOnly; SameSite=Lax; Secure"
                assert headers["Strict-Transport-Security"]
            with answering(apps[0]):
                assert all(get(port, "lookback=2")[2]["Set-Cookie"] is None for _ in range(5))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """systemd finds no fault with the unit, and calls it well locked up."""
    unit = tmp_path / "lookback@8501.service"
    text = (DEPLOY / "lookback@.service").read_text()
    unit.write_text(
        text.replace("/opt/lookback/.venv/bin/streamlit", "/bin/true").replace("=/opt/lookback", "=/")
    )
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "lookback@" not in checked.stderr
    judged = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(judged, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_image_has_the_rooms() -> None:
    """Each file that the image is made of is there, and none of the rooms that the app needs is left out."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        source for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for source in line.split()
    }
    assert all((ROOT / source).exists() for source in copied)
    assert {"app.py", "components", "nats_client", "pages", "services", "static"} <= copied
    assert re.search(r"^USER [1-9]", text, re.MULTILINE)


@pytest.mark.parametrize("recipe", ["Dockerfile", "lookback@.service", "scale.py"])
def test_edited_code_is_not_picked_up(recipe: str) -> None:
    """Each recipe that starts the app switches hot reload off; the others start the image."""
    assert re.search(r'LOOKBACK_RELOAD"?[=:] ?"?0\b', (DEPLOY / recipe).read_text())
    for other in ("compose.yaml", "kubernetes.yaml"):
        assert "LOOKBACK_RELOAD" not in (DEPLOY / other).read_text()
