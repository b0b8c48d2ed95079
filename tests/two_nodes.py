"""end to end: one job on two nodes: namespaces with network, host name, processes and /dev/shm of their own, joined by a cable.

Open MPI sees two hosts: it starts its daemon on the other one, counts the ranks of each, and sends over TCP. Files are
shared, as on a cluster. Skipped where a user may not make namespaces, or `ip` is missing.
    tests/two_nodes.py [WORD ...]      the cases whose name has a word"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from faults_scene import DEMO, Running, Scene, difference, make_pattern, result, settings
from harness import Checks, precisions

INSIDE = "TWO_NODES_INSIDE"
NET = "10.77.0"
ROOM = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child"]  # a pid namespace ends with its first process


# --------------------------------------------------------------------------------------------------------------- nodes
def tools_missing():
    tools = ("ip", "unshare", "nsenter", "hostname", "mount", "mpirun")
    return next((f"no {tool}" for tool in tools if not shutil.which(tool)), "")


def enter():
    """Starts this script again as the first node; where that is not allowed, why."""
    for user in ([], ["--user", "--map-root-user"]):
        start = ["unshare", *user, *ROOM]
        probe = "mount -t proc proc /proc && mount -t tmpfs none /dev/shm && ip link add one type veth peer name two"
        tried = subprocess.run([*start, "sh", "-c", probe], capture_output=True, text=True)
        if tried.returncode == 0:
            os.environ[INSIDE] = "1"
            os.environ["TMPDIR"] = "/tmp"  # what both nodes see
            os.execvp(start[0], [*start, sys.executable, *sys.argv])
    return f"no namespaces: {' '.join(tried.stderr.split())}"


def sh(*command):
    subprocess.run(command, check=True, capture_output=True)


class Nodes:
    """node-a is where this script runs; node-b is made, lost and made again."""

    def __init__(self, directory):
        self.agent, self.b = directory / "agent", None
        sh("mount", "-t", "proc", "proc", "/proc")
        sh("mount", "-t", "tmpfs", "none", "/dev/shm")
        sh("hostname", "node-a")
        sh("ip", "link", "set", "lo", "up")
        self.start()

    def start(self):
        own = "mount -t proc proc /proc && mount -t tmpfs none /dev/shm && hostname node-b && echo up && exec sleep 1000"
        self.b = subprocess.Popen(["unshare", *ROOM, "sh", "-c", own], stdout=subprocess.PIPE, text=True)
        assert self.b.stdout.readline() == "up\n", "the second node does not start"
        self.first = int(Path(f"/proc/{self.b.pid}/task/{self.b.pid}/children").read_text())
        room = self.room = ["nsenter", "--target", str(self.first), "--net", "--uts", "--pid", "--mount"]
        sh("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable-b", "netns", str(self.first))
        for name, start, address in (("cable", [], 1), ("cable-b", room, 2)):
            sh(*start, "ip", "address", "add", f"{NET}.{address}/24", "dev", name)
            sh(*start, "ip", "link", "set", name, "up")
        sh(*room, "ip", "link", "set", "lo", "up")
        # what mpirun calls in place of ssh: agent HOST COMMAND; the daemon goes its own way, as behind ssh
        there = f"""exec {' '.join(room)} sh -c 'cd "$HERE" && eval "$0"' "$*"\n"""
        self.agent.write_text(f'#!/bin/sh\nshift\nexport HERE="$PWD"\n{there}')
        self.agent.chmod(0o755)

    def lose(self):
        """All processes of node-b end in the same moment, and its end of the cable with them."""
        self.b.kill()  # --kill-child: its first process, and so the rest
        self.b.wait()

    @staticmethod
    def cut():
        """Nothing comes through the cable any more, and nobody is told."""
        sh("ip", "link", "set", "cable", "down")

    def mend(self):
        if self.b.poll() is None:
            sh("ip", "link", "set", "cable", "up")
            sh("ip", "neighbour", "flush", "dev", "cable")  # each remembers for a while that the other did not answer
            sh(*self.room, "ip", "neighbour", "flush", "dev", "cable-b")
        else:
            self.start()

    def own(self, pid):
        """Whether this process is one of node-b's."""
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{self.first}/ns/pid")

    def mpirun(self, a, b, *more):
        """Options of mpirun for that many ranks on each node."""
        mca = {"plm": "rsh", "plm_rsh_agent": self.agent, "btl": "tcp,self", "btl_tcp_if_include": f"{NET}.0/24",
               "oob_tcp_if_include": f"{NET}.0/24"}
        return ["--host", f"node-a:{a},node-b:{b}", *more, *(str(x) for k, v in mca.items() for x in ("--mca", k, v))]

    @staticmethod
    def sent():
        """Bytes that have left node-a through the cable."""
        return int(re.search(r"^ *cable: *(.*)$", Path("/proc/net/dev").read_text(), re.M)[1].split()[8])


# --------------------------------------------------------------------------------------------------------------- cases
class Case:
    def __init__(self, checks, nodes):
        self.checks, self.nodes, self.scene, self.alone = checks, nodes, Scene(checks), {}

    def start(self, directory, ranks, parallel, mpirun=(), options=(), **more):
        text = settings(train={"steps": 4, "batch_size": 4, "accumulation": 1}, parallel=parallel)
        return Running(directory, options, ranks, settings=text, mpirun=mpirun, **more)

    def one_node(self, ranks, parallel):
        key = (ranks, str(parallel))
        if key not in self.alone:
            directory = self.scene.new(f"one node {key}")
            done = self.start(directory, ranks, parallel).wait()
            assert done.code == 0, done.err
            self.alone[key] = result(directory)
        return self.alone[key]

    def same(self, what, directory, ranks, parallel):
        a, b = self.one_node(ranks, parallel), result(directory)
        self.checks.check(a == b and len(a) > 100, f"{what}: not a bit differs from one node", difference(a, b))

    def layout(self, a, b, data, tensor, *more):
        """a and b ranks on the two nodes."""
        parallel, ranks = {"data": data, "tensor": tensor}, a + b
        what = f"{a} + {b} ranks, data {data} x tensor {tensor} {' '.join(more)}"
        directory, before = self.scene.new(what), self.nodes.sent()
        done = self.start(directory, ranks, parallel, self.nodes.mpirun(a, b, *more)).wait()
        self.checks.check(done.code == 0 and not done.left, what, f"status {done.code}, left {done.left}: {done.err[-1500:]}")
        if done.code == 0:
            self.checks.check(self.nodes.sent() - before > 1e5, f"{what}: it has sent over the cable")
            self.same(what, directory, ranks, parallel)


    def node_sizes(self, a, b):
        """What the first rank says of its node: of the ranks, not of the processors that both nodes here have in common."""
        directory = self.scene.new(f"check {a} {b}")
        done = self.start(directory, a + b, {}, self.nodes.mpirun(a, b), ["--check"]).wait()
        said = (f"\nnode       {a} process{'' if a == 1 else 'es'}: ", f"\nlayout     {a + b} processes")
        self.checks.check(all(s in done.text for s in said), f"{a} + {b} ranks: the first node has {a}",
                          done.text[-1500:] + done.err)

    def sent_by(self, what, parallel, of, less, more, times):
        """Bytes over the cable for `times` more of something, against the plan's."""
        sent, said = [], ""
        for changes in (less, more):
            directory = self.scene.new(f"{what} {changes}")
            wide = json.loads((DEMO / "model/config.json").read_text())
            (directory / "base/config.json").write_text(json.dumps(wide | {"num_hidden_layers": 1}))
            quiet = settings(parallel=parallel, evaluate={"every": 0}, checkpoint={"every": 0, "export": False}) | changes
            before = self.nodes.sent()
            done = Running(directory, (), 2, settings=quiet, mpirun=self.nodes.mpirun(1, 1)).wait()
            sent.append(self.nodes.sent() - before)
            said = done.text
        planned = re.search(rf"in an? {of} ([0-9.e+-]+) MB to", said)
        measured, planned = (sent[1] - sent[0]) / times, float(planned[1]) * 1e6 if planned else 0
        self.checks.check(planned and abs(measured / planned - 1) < 0.15,  # headers, acknowledgements, what TCP sends twice
                          f"{what}: a process sends what the plan says, {of}",
                          f"{measured:.0f} bytes, planned {planned:.0f}")
        print(f"{what}: {of}: {measured:.0f} bytes, planned {planned:.0f}")

    def lost(self, what, lose):
        """A run that loses what `lose` takes from it while it has a checkpoint; then it goes on."""
        parallel, directory = {"data": 2, "tensor": 1}, self.scene.new(what)
        patience = {"time": 2, "intvl": 1, "probes": 2}  # seconds, until Open MPI gives a silent daemon up; else 480
        mpirun = self.nodes.mpirun(1, 1, *(str(x) for k, v in patience.items() for x in ("--mca", f"oob_tcp_keepalive_{k}", v)))
        slow = {"FAULT_CALL": "rename", "FAULT_PATH": "checkpoint-3", "FAULT_N": 1, "FAULT_LAST": 2, "FAULT_HOW": "sleep",
                "FAULT_RANK": 0}
        run = self.start(directory, 2, parallel, mpirun, env=slow)
        self.checks.check(run.until((directory / "out/checkpoint-2").exists), f"{what}: there is a checkpoint")
        lose(run)
        done = run.wait()
        self.checks.check(done.code not in (0, 124), f"{what}: the job ends", f"status {done.code}: {done.err[-1000:]}")
        self.checks.check(not done.left and done.seconds < 20, f"{what}: at once, and nobody is left",
                          f"{done.left} {done.seconds:.1f} s")
        self.nodes.mend()
        done = self.start(directory, 2, parallel, self.nodes.mpirun(1, 1), options=["--restart"]).wait()
        went_on = "restart    from out/checkpoint-" in done.text
        self.checks.check(done.code == 0 and went_on, f"{what}: the restart goes on", f"status {done.code}: {done.err[-1000:]}")
        self.same(f"{what}, and restarted", directory, 2, parallel)


def cases(case):
    def evenly():
        case.layout(1, 1, 2, 1)

    def tensor_over_nodes():
        case.layout(2, 2, 2, 2, "--map-by", "node")  # ranks go to a b a b: the two of a tensor group are apart

    def data_over_nodes():
        case.layout(2, 2, 2, 2, "--map-by", "slot")

    def unevenly():
        case.layout(2, 1, 3, 1)
        case.layout(1, 2, 1, 3)

    def counted():
        case.node_sizes(2, 1)
        case.node_sizes(1, 2)

    def messages():
        train = {"batch_size": 4, "accumulation": 1}
        two, six = ({"train": train | {"steps": 5}, "geffect": {"every": every}} for every in (5, 1))  # measurements
        for parallel in ({"data": 2}, {"tensor": 2}):
            few, many = ({"train": train | {"steps": steps}, "geffect": {"every": 0}} for steps in (1, 5))
            case.sent_by(str(parallel), parallel, "update", few, many, 4)
            case.sent_by(str(parallel), parallel, "measurement", two, six, 4)

    def kill_daemon(run):
        run.kill(next(p for p, name in run.processes().items() if name == "orted" and case.nodes.own(p)))

    def lost_node():
        case.lost("a node is lost", lambda run: case.nodes.lose())

    def lost_cable():
        case.lost("the cable is cut", lambda run: case.nodes.cut())

    def lost_daemon():
        case.lost("the other node's daemon is killed", kill_daemon)

    def two_jobs():
        directory, other = case.scene.new("two jobs"), {"data": 1, "tensor": 1}
        slow = {"FAULT_CALL": "rename", "FAULT_PATH": "checkpoint-2", "FAULT_N": 1, "FAULT_HOW": "sleep"}
        first = case.start(directory, 1, other, env=slow)
        first.until((directory / "out/checkpoint-1").exists)
        there = [*case.nodes.room, f"--wd={directory}", Scene.program(), "--overwrite", "my.yaml"]
        second = Running(directory, shell=list(map(str, there))).wait()
        case.scene.ended("a second job in one directory, from another node", second, 1, "node-a", str(first.process.pid))
        case.scene.ended("the first job goes on", first.wait(), 0)

    every = (evenly, tensor_over_nodes, data_over_nodes, unevenly, counted, messages, lost_node, lost_cable, lost_daemon,
             two_jobs)
    return [(f.__name__.replace("_", " "), f) for f in every]


def main():
    words = sys.argv[1:]
    if INSIDE not in os.environ:
        print(f"skipped: {tools_missing() or enter()}")
        sys.exit(77)
    checks = Checks("nodes")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    case = Case(checks, Nodes(checks.directory))
    for name, function in cases(case):
        if not words or any(w in name for w in words):
            began = time.monotonic()
            function()
            print(f"{time.monotonic() - began:6.1f} s  {name}", flush=True)
    checks.finish()


if __name__ == "__main__":
    main()
