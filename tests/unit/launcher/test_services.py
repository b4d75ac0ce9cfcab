"""Real processes: started together, watched, stopped in order, never left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memory3.errors import InvalidArgumentError, PortInUseError, SettingsError
from memory3.launcher import (
    LaunchOptions,
    LocalServices,
    ServiceStartError,
    ServiceStoppedError,
)
from memory3.launcher.ports import free_ports, is_free
from tests.certificates import Certificates
from tests.unit.launcher.conftest import ROOT
from tests.waiting import eventually

Make = Callable[..., LocalServices]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_services_start_know_each_other_and_stop_in_order(make_services: Make) -> None:
    """All are ready at distinct addresses; the decoder leaves first and the encoder last."""
    services = make_services(cache="redis://127.0.0.1:1/0")
    with services:
        assert len(set(services.addresses.values())) == 3
        pids = [process.pid for process in services.processes.values()]
    logs = {name: p.log_path.read_text() for name, p in services.processes.items()}
    assert f"--retriever {services.addresses['retriever']}" in logs["decoder"]
    assert f"--encoder {services.addresses['encoder']}" in logs["retriever"]
    assert "--cache redis://127.0.0.1:1/0" in logs["retriever"]
    left = {name: float(re.findall(r"left at (\S+)", log)[0]) for name, log in logs.items()}
    assert left["decoder"] < left["retriever"] < left["encoder"]
    assert [process.exit_code for process in services.processes.values()] == [0, 0, 0]
    assert not any(is_alive(pid) for pid in pids if pid is not None)


def test_terminal_signals_do_not_reach_the_services(make_services: Make) -> None:
    """Each process is in a group of its own, so that Ctrl-C stops them in order."""
    services = make_services()
    with services:
        groups = {os.getpgid(p.pid) for p in services.processes.values() if p.pid is not None}
    assert len(groups) == 3
    assert os.getpgid(0) not in groups


def test_service_that_cannot_start_is_named_with_its_log(make_services: Make) -> None:
    """The others are stopped, and the error shows what the service said."""
    services = make_services({"retriever": "die"})
    with pytest.raises(ServiceStoppedError) as caught, services:
        pass
    assert caught.value.field == "retriever"
    assert "retriever cannot start" in caught.value.message
    assert "retriever.log" in (caught.value.remedy or "")
    assert caught.value.metadata["exit_code"] == "1"
    assert all(process.exit_code is not None for process in services.processes.values())


def test_service_that_dies_later_is_named(make_services: Make) -> None:
    """Watching finds the death and its signal; nothing is restarted."""
    services = make_services({})
    with services:
        pid = services.processes["decoder"].pid
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: services.processes["decoder"].exit_code is not None)
        with pytest.raises(ServiceStoppedError, match="killed by SIGKILL"):
            services.check()
        assert services.processes["decoder"].pid == pid


def test_service_that_is_never_ready_is_named(make_services: Make) -> None:
    """Waiting ends in time with the service that is missing."""
    services = make_services({"encoder": "never"})
    services.start()
    with pytest.raises(ServiceStartError) as caught:
        services.wait_ready(1.5)
    assert caught.value.field == "encoder"


def test_waiting_can_be_left(make_services: Make) -> None:
    """An event ends the waiting without an error."""
    services = make_services({"encoder": "never"})
    services.start()
    leave = threading.Event()
    leave.set()
    services.wait_ready(60, leave)


def test_stubborn_service_is_killed_after_its_grace(make_services: Make) -> None:
    """A process that does not heed SIGTERM does not keep the launcher."""
    services = make_services({"decoder": "stubborn"}, grace_s=8)
    services.start()
    services.wait_ready(120)
    assert services.stop() == {"decoder": -signal.SIGKILL, "retriever": 0, "encoder": 0}


def test_services_end_with_a_launcher_that_is_killed(
    tmp_path: Path, checkpoint: Path, stand_ins: dict[str, str]
) -> None:
    """A launcher that cannot clean up leaves no process behind."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from memory3.launcher import *\n"
        "folder = Path(sys.argv[1])\n"
        "services = LocalServices(LaunchOptions(checkpoint=Path(sys.argv[2]), data=folder / 'd',"
        " state=folder / 's'))\n"
        "services.start(); services.wait_ready(120)\n"
        "print(*(p.pid for p in services.processes.values()), flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), str(checkpoint)],
        stdout=subprocess.PIPE,
        env={**os.environ, **stand_ins},
        cwd=ROOT,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert [is_alive(pid) for pid in pids] == [True] * 3
        launcher.kill()
    assert eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_log_of_the_run_before_is_kept(make_services: Make, tmp_path: Path) -> None:
    """A restart does not wipe the log that explains why it was needed."""
    for _ in range(2):
        with make_services():
            pass
    assert (tmp_path / "state" / "encoder.log").is_file()
    assert "encoder left" in (tmp_path / "state" / "encoder.log.1").read_text()


def test_taken_port_is_refused_by_name(make_services: Make) -> None:
    """The option to change is in the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            make_services(ports={"retriever": port})
    assert caught.value.field == "retriever_port"
    assert "--retriever-port" in (caught.value.remedy or "")


def test_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """The mistake is told before anything is started."""
    with pytest.raises(InvalidArgumentError) as caught:
        LocalServices(LaunchOptions(checkpoint=tmp_path, data=tmp_path, state=tmp_path))
    assert caught.value.field == "checkpoint"


def test_free_ports_are_distinct_and_free() -> None:
    """Ports can be bound and lie below those of outgoing connections."""
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) and port < 32768 for port in ports)


def test_services_with_certificates_are_asked_over_tls(make_services: Make, tmp_path: Path) -> None:
    """They are ready for who trusts their authority; who names none is told which one to set."""
    certificates = Certificates(tmp_path)
    cert, key = certificates.sign("server", "IP:127.0.0.1")
    own = {
        f"MEMORY3_{name}_{part}": str(path)
        for name in ("ENCODER", "RETRIEVER", "DECODER")
        for part, path in (("TLS_CERT", cert), ("TLS_KEY", key))
    }
    services = make_services(variables=own)
    with pytest.raises(SettingsError, match="whom to trust") as caught, services:
        pass
    assert "MEMORY3_TLS_CA" in (caught.value.remedy or "")
    with make_services(variables={**own, "MEMORY3_TLS_CA": str(certificates.authority)}):
        pass
