"""Who may join: TLS wherever another machine can reach, files that fit each other, and one sentence for all else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fleet_workers import COMMANDS, certificates

from rtmw_edge.cli import main
from rtmw_edge.errors import BadInputError
from rtmw_edge.fleet.link import is_loopback, link_to

ROOT = Path(__file__).parents[2]


def test_loopback_needs_no_certificates() -> None:
    assert link_to("tcp://127.0.0.1:8786", None, None, None).address == "tcp://127.0.0.1:8786"
    assert link_to("tcp://[::1]:8786", None, None, None).address == "tcp://[::1]:8786"
    assert not is_loopback("not-localhost") and not is_loopback("10.0.0.2")
    assert [is_loopback(host) for host in ("127.3.0.1", "localhost", "0.0.0.0", "desktop", "192.168.1.4")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "desktop"])
def test_tcp_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(BadInputError) as refused:
        link_to(f"tcp://{host}:8786", None, None, None)
    assert str(refused.value) == (
        f"tcp://{host}:8786 can be reached from other machines, and tcp would let anybody in; write "
        f"tls://{host}:8786 with --tls-ca, --tls-cert and --tls-key."
    )


@pytest.mark.parametrize(
    "address", ["desktop:8786", "tls://desktop", "http://desktop:80", "tls://:8786", "tls://a:b:c"]
)
def test_an_address_that_cannot_be_read_is_told(address: str) -> None:
    with pytest.raises(
        BadInputError, match=r"Cannot read the address .*; write tls://HOST:8786, or tcp://127\.0\.0\.1:8786"
    ):
        link_to(address, None, None, None)


def test_all_three_files_are_needed_and_must_fit(tmp_path: Path) -> None:
    ours, theirs = certificates(tmp_path / "ours"), certificates(tmp_path / "theirs")
    address = "tls://0.0.0.0:8786"
    with pytest.raises(BadInputError, match="needs --tls-ca, --tls-cert, --tls-key; --tls-key is missing"):
        link_to(address, ours.authority, ours.certificate, None)
    with pytest.raises(BadInputError, match=r"There is no file .*none\.pem for --tls-cert; check the path"):
        link_to(address, ours.authority, tmp_path / "none.pem", ours.key)
    with pytest.raises(BadInputError, match="is not encrypted and takes no certificates; write tls://"):
        link_to("tcp://127.0.0.1:8786", ours.authority, None, None)
    good = link_to(address, ours.authority, ours.certificate, ours.key)
    assert good.security().require_encryption and good.address == address
    for files in ((ours.authority, ours.certificate, theirs.key), (ours.key, ours.certificate, ours.key)):
        with pytest.raises(
            BadInputError, match=r"cannot be used together \(.*\); make them again as docs/sweep.md says"
        ):
            link_to(address, *files).security()


def test_the_page_makes_certificates_as_the_tests_do() -> None:
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert command.replace("NAME", "desktop") in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["worker", "tcp://desktop:8786", "--board", "pi5"], "tcp would let anybody in"),
        (["worker", "tls://desktop:8786", "--board", "Pi 5"], "A board cannot be called 'Pi 5'"),
        (["worker", "tcp://127.0.0.1:1", "--board", "local"], "In sweeps local is the machine that they run on: call"),
        (["sweep", "away.toml"], "The sweep runs on pi5; say where workers join: --listen tls://0.0.0.0:8786."),
        (["sweep", "away.toml", "--tls-ca", "ca.pem"], "Certificates are for the boards that join: add --listen"),
        (
            ["sweep", "here.toml", "--search", "--listen", "tcp://127.0.0.1:8786"],
            "A search runs on this machine",
        ),
        (["sweep", "away.toml", "--listen", "tcp://0.0.0.0:8786"], "tcp would let anybody in"),
        (["sweep", "here.toml", "--listen", "tcp://127.0.0.1:8786"], "The sweep names no board that could join"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = 'variants = ["rtmw-n-256x192"]\ntargets = ["onnx"]\nprecisions = ["fp32"]\n'
    Path("here.toml").write_text(plain)
    Path("away.toml").write_text(plain + 'boards = ["local", "pi5"]\n')
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1


def test_a_sweep_on_this_machine_loads_no_dask_and_a_worker_s_side_no_torch() -> None:
    for module, unneeded in (
        ("rtmw_edge.sweep.start", "distributed"),
        ("rtmw_edge.fleet.work, rtmw_edge.fleet.worker", "torch"),
    ):
        code = f"import sys, {module}; print('{unneeded}' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False", module
