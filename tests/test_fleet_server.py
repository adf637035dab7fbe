"""A fleet and a real server on this machine's loopback: what is refused, each in one line, and what a worker may do."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import scanner.fleet.collector
import scanner.fleet.session
from scanner.fleet.limits import limits_of, refusal_of_offer
from scanner.fleet.subjects import ROWS, permissions, rows
from tests.command import halfopen
from tests.lab.fleet import nats_server
from tests.processes import wait_until

nats = pytest.importorskip("nats")
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig  # noqa: E402

WITH_SERVER = [pytest.mark.live, pytest.mark.skipif(nats_server() is None, reason="nats-server is not installed")]
ROOT = str(Path(__file__).parents[1])
HERE = ("connect", "127.0.0.1", "-p", "1")
Start = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a server, and returns its address."""
    monkeypatch.chdir(tmp_path)
    started: list[subprocess.Popen[Any]] = []

    def start(*options: str, jetstream: bool = True) -> str:
        program = nats_server()
        assert program
        storage = ["-js", "-sd", str(tmp_path / "data")] if jetstream else []
        log = tmp_path / "server.log"
        command = [program, "-a", "127.0.0.1", "-p", "-1", "-l", str(log), *storage, *options]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_until(lambda: log.exists() and "Server is ready" in log.read_text(), started[-1])
        port = log.read_text().partition("connections on 127.0.0.1:")[2].split()[0]
        return f"nats://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Starts a worker as a process, and returns the file of what it says."""
    started: list[subprocess.Popen[Any]] = []

    def start(url: str, *options: str, **variables: str) -> Path:
        said = tmp_path / f"worker{len(started)}.log"
        command = [sys.executable, "-m", "scanner", "worker", url, *options]
        with open(said, "wb") as log:
            environment = {**os.environ, "PYTHONPATH": ROOT, **variables}
            started.append(subprocess.Popen(command, stderr=log, env=environment))
        wait_until(lambda: said.read_bytes().count(b"\n") > 0, started[-1])
        return said

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (130, 1, 2)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, if it is one line."""
    printed, said = capsys.readouterr()
    assert (printed, said.count("\n")) == ("", 1), said
    return said


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no server": (["--fleet", "nats://127.0.0.1:1"], "no server at"),
    "no address": (["--fleet", "127.0.0.1"], "is no address of a server"),
    "no port": (["--fleet", "nats://127.0.0.1:x"], "is no address of a server"),
    "a password": (["--fleet", "nats://me:secret@127.0.0.1"], "HALFOPEN_NATS_PASSWORD"),
    "plain text": (["--fleet", "nats://1.1.1.1:4222"], "--insecure"),
    "no certificate": (["--fleet", "tls://127.0.0.1:1", "--tls-ca", "/nowhere"], "--tls-ca"),
    "no credentials": (["--fleet", "nats://127.0.0.1:1", "--creds", "/nowhere"], "--creds"),
    "an interface": (["--fleet", "nats://127.0.0.1:1", "-e", "lo"], "-e is about one machine"),
    "a source": (["--fleet", "nats://127.0.0.1:1", "--source-ip", "127.0.0.1"], "--source-ip"),
    "a tag": (["--fleet", "nats://127.0.0.1:1", "--tag", "a.b"], "--tag"),
}


@pytest.mark.live
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_work_is_said_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, said = WRONG[name]
    assert (halfopen(*HERE, *options), said in one_line(capsys)) == (2, True)


@pytest.mark.parametrize(
    "options",
    [["-g", "5"], ["--record", "x.pcap"], ["--ladder"], ["--packet-trace"], ["--verify"], ["--senders", "2"],
     ["--transport", "raw"]],
)  # fmt: skip
def test_what_belongs_to_one_machine_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = halfopen("syn", "127.0.0.1", "-p", "1", "--fleet", "nats://127.0.0.1:1", *options)
    assert (code, "is about one machine" in one_line(capsys)) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [([], "name the server"), (["nats://127.0.0.1:1", "--allow", "here"], "--allow"),
     (["nats://127.0.0.1:1", "--max-rate", "0"], "--max-rate"), (["nats://127.0.0.1:1", "--name", "a b"], "--name"),
     (["nats://127.0.0.1:1"], "no server at")],
)  # fmt: skip
def test_a_worker_that_cannot_work_says_so_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (halfopen("worker", *options), said in one_line(capsys)) == (2, True)


class TestWithAServer:
    pytestmark = WITH_SERVER

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scanner.fleet.session, "WORKERS_SECONDS", 3.0)

    def test_no_worker_with_the_tag(
        self, serve: Start, work: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = serve()
        work(url, "--allow", "127.0.0.0/8")
        code = halfopen(*HERE, "--fleet", url, "--tag", "berlin", "-o", "out.jsonl")
        assert (code, "no worker with the tag berlin" in one_line(capsys)) == (2, True)
        assert not Path("out.jsonl").exists()

    def test_a_worker_with_the_tag_scans(
        self, serve: Start, work: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = serve()
        work(url, "--allow", "127.0.0.0/8", "--tag", "berlin")
        code = halfopen(*HERE, "--fleet", url, "--tag", "berlin", "-o", "out.jsonl", "-q")
        assert (code, Path("out.jsonl").read_text().count('"conn-refused"')) == (0, 1)

    def test_a_scan_beyond_the_limits_of_a_worker(
        self, serve: Start, work: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = serve()
        work(url, "--name", "careful")
        code = halfopen(*HERE, "--fleet", url)
        said = one_line(capsys)
        assert (code, "careful: 1 address of the scan that its owner denies" in said) == (2, True), said

    def test_wrong_credentials(
        self, serve: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = serve("--user", "fleet", "--pass", "right")
        monkeypatch.setenv("HALFOPEN_NATS_USER", "fleet")
        monkeypatch.setenv("HALFOPEN_NATS_PASSWORD", "wrong")
        assert (halfopen(*HERE, "--fleet", url), "refuses these credentials" in one_line(capsys)) == (2, True)

    def test_a_server_without_jetstream(self, serve: Start, capsys: pytest.CaptureFixture[str]) -> None:
        assert (halfopen(*HERE, "--fleet", serve(jetstream=False)), "-js" in one_line(capsys)) == (2, True)

    def test_a_server_that_takes_small_messages_only(
        self, serve: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "small.conf").write_text("max_payload: 10000\n")
        url = serve("-c", str(tmp_path / "small.conf"))
        assert (halfopen(*HERE, "--fleet", url), "max_payload" in one_line(capsys)) == (2, True)

    def test_a_server_with_too_little_room(
        self, serve: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = tmp_path / "js"
        (tmp_path / "small.conf").write_text(f"jetstream {{ store_dir: '{store}', max_file_store: 100000 }}\n")
        url = serve("-c", str(tmp_path / "small.conf"), jetstream=False)
        assert (halfopen(*HERE, "--fleet", url), "jetstream" in one_line(capsys)) == (2, True)

    def test_a_worker_needs_no_more_than_the_printed_permissions(
        self, serve: Start, work: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = (
            "authorization: { users: [ { user: collector, password: c },"
            f" {{ user: worker, password: w, {permissions(('berlin',))} }} ] }}\n"
        )
        (tmp_path / "users.conf").write_text(users)
        url = serve("-c", str(tmp_path / "users.conf"))
        said = work(
            url, "--allow", "127.0.0.0/8", "--tag", "berlin", HALFOPEN_NATS_USER="worker", HALFOPEN_NATS_PASSWORD="w"
        )  # fmt: skip
        monkeypatch.setenv("HALFOPEN_NATS_USER", "collector")
        monkeypatch.setenv("HALFOPEN_NATS_PASSWORD", "c")
        code = halfopen(
            "connect", "127.0.0.1", "-p", "1-3000", "--fleet", url, "--tag", "berlin", "-o", "a.jsonl", "-q"
        )
        log = (tmp_path / "server.log").read_text()
        assert (code, Path("a.jsonl").read_text().count("\n")) == (0, 3000), said.read_text()
        assert "Violation" not in log, log

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
    def test_tls(
        self, serve: Start, work: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
        names = ["-subj", "/CN=fleet", "-addext", "subjectAltName=IP:127.0.0.1"]
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
        subprocess.run([*new, *names], check=True, capture_output=True)
        block = f"tls: {{ cert_file: '{certificate}', key_file: '{key}', handshake_first: true }}\n"
        (tmp_path / "tls.conf").write_text(block)
        url = serve("-c", str(tmp_path / "tls.conf")).replace("nats://", "tls://")
        work(url, "--allow", "127.0.0.0/8", "--tls-ca", certificate)
        trusted = halfopen(*HERE, "--fleet", url, "--tls-ca", certificate, "-q", "-o", "out.jsonl")
        capsys.readouterr()
        assert (trusted, Path("out.jsonl").read_text().count("\n")) == (0, 1)
        assert (halfopen(*HERE, "--fleet", url), "is not trusted" in one_line(capsys)) == (2, True)

    def test_a_server_that_has_no_tls_gets_no_password(self, serve: Start, capsys: pytest.CaptureFixture[str]) -> None:
        url = serve().replace("nats://", "tls://")
        assert (halfopen(*HERE, "--fleet", url), "handshake_first" in one_line(capsys)) == (2, True)


def test_a_worker_of_another_version_or_without_raw_sockets_refuses() -> None:
    limits = limits_of(None, [], [], "no CAP_NET_RAW")
    offers = [{"version": "0.0", "verb": "connect"}, {"version": scanner.__version__, "verb": "syn"}]
    offers.append({"version": scanner.__version__, "verb": "connect"})
    refusals = [refusal_of_offer(offer, limits) for offer in offers]
    assert (refusals[0] or "").startswith("it is version"), refusals
    assert refusals[1:] == ["no CAP_NET_RAW", None]


def test_the_address_family_of_a_server_may_be_six(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET) as unused:
        unused.bind(("127.0.0.1", 0))
    assert (halfopen(*HERE, "--fleet", "nats://[::1]:1"), "no server at" in one_line(capsys)) == (2, True)


async def fill(url: str, most_bytes: int, scan: str = "f" * 16) -> int:
    """Make the stream of results with so many bytes, and fill it with those of another scan. Returns how many fit."""
    server = await nats.connect(url)
    stream = server.jetstream()
    config = StreamConfig(
        name=ROWS, subjects=["halfopen.rows.*"], retention=RetentionPolicy.WORK_QUEUE, max_bytes=most_bytes,
        discard=DiscardPolicy.NEW,
    )  # fmt: skip
    await stream.add_stream(config)
    count = 0
    with suppress(nats.js.errors.APIError):
        while count < 10_000:
            await stream.publish(rows(scan), b"x" * 1000)
            count += 1
    await server.close()
    return count


async def empty(url: str, scan: str = "f" * 16) -> None:
    """Remove the results of the other scan."""
    server = await nats.connect(url)
    await server.jetstream().purge_stream(ROWS, subject=rows(scan))
    await server.close()


class TestStreams:
    pytestmark = WITH_SERVER

    def test_a_stream_too_small_for_one_piece(self, serve: Start, capsys: pytest.CaptureFixture[str]) -> None:
        url = serve()
        asyncio.run(fill(url, 100_000))
        assert (halfopen(*HERE, "--fleet", url), "too small for one piece" in one_line(capsys)) == (2, True)

    def test_a_worker_waits_while_the_stream_is_full(
        self, serve: Start, work: Callable[..., Path], tmp_path: Path
    ) -> None:
        url = serve()
        assert asyncio.run(fill(url, 2 << 20)) > 1000
        said = work(url, "--allow", "127.0.0.0/8", "--name", "w")
        command = [sys.executable, "-m", "scanner", *HERE, "--fleet", url, "-o", "out.jsonl", "-q"]
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT})
        try:
            wait_until(lambda: "is full" in said.read_text(), process)
            before = (tmp_path / "out.jsonl").read_text()
            asyncio.run(empty(url))
            assert (process.wait(60), before, (tmp_path / "out.jsonl").read_text().count("\n")) == (0, "", 1)
        finally:
            process.kill()
            process.wait()

    def test_a_job_larger_than_a_message_goes_through_the_object_store(
        self, serve: Start, work: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Names are resolved here, and a row has the name that the user gave."""
        url = serve()
        work(url, "--allow", "127.0.0.0/8")
        hosts = (f"127.{number >> 15 & 255}.{number >> 7 & 255}.{number << 1 & 254}" for number in range(300_000))
        (tmp_path / "hosts").write_text("\n".join((*hosts, "localhost")))
        code = halfopen(
            "connect", "-4", "-iL", "hosts", "-p", "1", "--seed", "7", "--shard", "1/30000", "--fleet", url, "-o",
            "out.jsonl", "-q",
        )  # fmt: skip
        assert (code, Path("out.jsonl").read_text().count("conn-refused")) == (0, 11)
        assert halfopen("connect", "-4", "localhost", "-p", "1", "--fleet", url, "-o", "name.jsonl", "-q") == 0
        assert '"hostname": "localhost"' in Path("name.jsonl").read_text()

    def test_a_server_that_stays_away_ends_the_scan_with_its_state(
        self, serve: Start, work: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setattr(scanner.fleet.collector, "GONE_SECONDS", 3.0)
        url = serve()
        work(url, "--allow", "127.0.0.0/8")
        thread = threading.Thread(target=self.end_server, args=(tmp_path, url))
        thread.start()
        code = halfopen(
            "connect", "127.0.0.1-40", "-p", "1-10", "--rate", "100", "--fleet", url, "-o", "out.jsonl", "--resume",
            "state",
        )  # fmt: skip
        thread.join()
        said = capsys.readouterr().err.splitlines()
        assert (code, Path("state").exists(), "the fleet cannot go on: no answer" in said[-1]) == (1, True, True), said
        assert 0 < Path("out.jsonl").read_text().count("\n") < 400

    @staticmethod
    def end_server(folder: Path, url: str) -> None:
        """Kill the server when the first rows are there."""
        rows = folder / "out.jsonl"
        wait_until(lambda: rows.exists() and rows.stat().st_size > 0)
        (line,) = [line for line in (folder / "server.log").read_text().splitlines() if "Starting nats-server" in line]
        os.kill(int(line[1:].partition("]")[0]), signal.SIGKILL)
