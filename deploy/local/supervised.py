"""Keep the processes of a plan alive with supervisor, and speak to it.

supervisor was chosen because it restarts a killed child, runs in the
background and answers over a socket; it is told nothing that it could decide
by itself: programs start when `stack` says so, in its order.
"""

import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from deploy.local.plan import ROOT, Plan, Program
from services.kit.testing.engines import EngineError, last_lines, tied_to_parent

# A unix socket's address holds 107 bytes, and supervisor binds a longer name first.
LONGEST_SOCKET = 90
GROUP_PRIORITY = {"engines": 100, "services": 200, "portal": 250, "world": 300}
STOP_SECONDS = 120

CONFIG = """\
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
nodaemon = true
silent = true
logfile = {folder}/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
{user}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM = """
[program:{name}]
command = {command}
directory = {root}
autostart = false
autorestart = {autorestart}
startsecs = 1
startretries = 3
exitcodes = 0
stopsignal = TERM
stopwaitsecs = {stop_seconds}
killasgroup = true
redirect_stderr = true
stdout_logfile = {log_file}
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 2
{environment}
"""

GROUP = """
[group:{name}]
programs = {programs}
priority = {priority}
"""


@dataclass(frozen=True, slots=True)
class State:
    """What supervisor knows of one program."""

    name: str
    state: str
    pid: int
    exit_status: int
    description: str

    @property
    def has_ended(self) -> bool:
        """It is over with this program: it will not be started again."""
        return self.state in ("EXITED", "FATAL")

    @property
    def has_succeeded(self) -> bool:
        return self.state == "EXITED" and self.exit_status == 0


class Supervisor:
    """The supervisor of one stack, running or not."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.state / "supervisor"
        self.socket = _socket_path(self.folder)
        self._process: subprocess.Popen[bytes] | None = None

    def is_up(self) -> bool:
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def is_ours(self) -> bool:
        """Whether this process started it and it has not ended."""
        return self._process is not None and self._process.poll() is None

    def spawn(self, *, tied: bool) -> None:
        """Start supervisor itself, with no program yet; `tied`: it ends with this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.plan.log_file("").parent.mkdir(parents=True, exist_ok=True)
        config = self.folder / "supervisord.conf"
        config.write_text(self._config())
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        output = self.folder / "supervisord.out"
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                tied_to_parent(command) if tied else command,
                cwd=ROOT,
                env=self.plan.child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in the terminal is for us to handle, in order
            )
        self._wait_until_up(output)

    def start(self, name: str) -> None:
        try:
            self._call("startProcess", self._full_name(name), False)
        except xmlrpc.client.Fault as fault:
            raise EngineError(f"{name} could not be started: {fault.faultString}") from None

    def stop(self, name: str) -> None:
        """Stop a program until it is started again; returns when it is gone. What does not run stays so."""
        with contextlib.suppress(xmlrpc.client.Fault):
            self._call("stopProcess", self._full_name(name), True)

    def states(self) -> dict[str, State]:
        found = [
            State(i["name"], i["statename"], i["pid"], i["exitstatus"], i["description"])
            for i in self._call("getAllProcessInfo")
        ]
        return {state.name: state for state in found}

    def state(self, name: str) -> State:
        return self.states()[name]

    def shut_down(self) -> None:
        """Stop every program, last started first, then supervisor; returns when all are gone."""
        if not self.is_up():
            self._end_before_it_was_up()
            return
        pid = int(self._call("getPID"))
        self._call("shutdown")
        deadline = time.monotonic() + STOP_SECONDS
        while not self._is_gone(pid):
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the process runner (pid {pid}) does not stop; its log is in {self.folder}"
                )
            time.sleep(0.1)

    def _end_before_it_was_up(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _is_gone(self, pid: int) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        try:
            # A process that nobody has waited for is still listed, as a zombie.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def _wait_until_up(self, output: Path) -> None:
        deadline = time.monotonic() + 20
        while not self.is_up():
            stopped = self._process is None or self._process.poll() is not None
            if stopped or time.monotonic() > deadline:
                raise EngineError(f"the process runner did not start:\n{last_lines(output)}")
            time.sleep(0.05)

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def _full_name(self, name: str) -> str:
        group = next(program.group for program in self.plan.programs if program.name == name)
        return f"{group}:{name}"

    def _config(self) -> str:
        user = "user = root" if os.getuid() == 0 else ""
        programs = self.plan.programs
        sections = [CONFIG.format(socket=self.socket, folder=self.folder, user=user)]
        sections += [self._program(program) for program in programs]
        for group, priority in GROUP_PRIORITY.items():
            names = ",".join(program.name for program in programs if program.group == group)
            if names:
                sections.append(GROUP.format(name=group, programs=names, priority=priority))
        return "".join(sections)

    def _program(self, program: Program) -> str:
        return PROGRAM.format(
            name=program.name,
            command=shlex.join(program.command).replace("%", "%%"),
            root=ROOT,
            autorestart=program.autorestart,
            stop_seconds=program.stop_seconds,
            log_file=self.plan.log_file(program.name),
            environment=_environment(program),
        )


def _environment(program: Program) -> str:
    """What one program is told beyond what all are; nothing where there is nothing."""
    told = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    return f"environment = {told.replace('%', '%%')}" if told else ""


def _socket_path(folder: Path) -> Path:
    path = folder / "supervisor.sock"
    if len(bytes(path)) <= LONGEST_SOCKET:
        return path
    key = hashlib.sha256(bytes(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pharmaloop-{os.getuid()}-{key}.sock"
