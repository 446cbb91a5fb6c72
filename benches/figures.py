"""The figures that were measured before (`figures.csv`: date, machine, row, value), and how new ones stand beside them."""

import csv
import datetime
import os
import platform
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent / "figures.csv"

# The most that a row should be; one without an entry is compared with what was measured last on the same machine.
BUDGETS = {
    "one_shot_100_cpu_ms": 30,
    "one_shot_100_wall_ms": 100,
    "first_tls_handshake_cpu_ms": 3,
    "hung_10_beyond_timeout_ms": 50,
    "many_cpu_ms_per_check": 0.15,
    "many_rss_mb": 150,
    "binary_mb": 30,
    "spend_first_read_cpu_ms_per_gb": 2000,
    "spend_second_read_beyond_new_bytes": 0,
    "middle/judge/100000_facts_wide_ms": 20,
    "middle/judge/100000_facts_narrow_ms": 20,
    "middle/gate/64k_log_ms": 1,
    "middle/gate/64k_json_ms": 1,
    "middle/gate/64k_of_secrets_ms": 1,
}


def machine():
    return f"{platform.node()}/{os.cpu_count()}"


def last():
    """The newest figure of each row on this machine."""
    if not FILE.exists():
        return {}
    with FILE.open(newline="") as file:
        return {row["row"]: float(row["value"]) for row in csv.DictReader(file) if row["machine"] == machine()}


def options(parser):
    parser.add_argument("--write", action="store_true", help="append the figures to benches/figures.csv")
    parser.add_argument(
        "--check",
        type=float,
        metavar="FACTOR",
        help="end with 1 when a figure is beyond its budget, or the last one, times this",
    )


def settle(rows, asked):
    """Writes and checks as asked; gives back the exit status."""
    before = last()
    if asked.write:
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        new = not FILE.exists()
        with FILE.open("a", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            if new:
                out.writerow(["date", "machine", "row", "value"])
            out.writerows([today, machine(), name, value] for name, value in rows.items())
    if asked.check is None:
        return 0
    beyond = []
    for name, value in rows.items():
        most = BUDGETS.get(name, before.get(name))
        if most is not None and value > most * asked.check:
            beyond.append(f"{name}: {value} is more than {asked.check} times {most}")
    print("\n".join(beyond), file=sys.stderr, end="\n" if beyond else "")
    return 1 if beyond else 0


def shown(name, value, before):
    beside = [f"budget {BUDGETS[name]}"] if name in BUDGETS else []
    beside += [f"last {before[name]}"] if name in before else []
    return f"{name:40} {value:10.3f}  {', '.join(beside)}".rstrip()
