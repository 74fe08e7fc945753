"""watch.py - what the processors of this machine do, for benches that must not count a sample taken beside others."""
import os

FOREIGN_MAX = 0.1  # of one processor
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def busy_seconds():
    """Of all processors, stolen time included."""
    with open("/proc/stat", encoding="ascii") as f:
        t = [int(x) for x in f.readline().split()[1:9]]
    return (t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) / TICKS


def session_seconds(session):
    """Of all processes of a session that live, with the children that they have waited for."""
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS
