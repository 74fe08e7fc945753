"""test_secrets.py - a canary prompt, its answer and every key: in no log, metric, argv, environment, file, or memory
image of a process that is not entitled to them."""

import pathlib
import secrets
import shutil
import subprocess

from stack import Skip, Stack, run, tiny_model

stack = None
canary = "canary " + secrets.token_hex(12)


def send_canary():
    body = {"model": stack.info["model"], "prompt": canary, "max_tokens": 4, "temperature": 0}
    for url in [None, *stack.info["proxy_urls"]]:
        status, _, data = stack.call("POST", "/v1/completions", body, url=url)
        assert status == 200, data
        list(stack.stream("/v1/completions", body, url=url))
    # an error answer must not carry it either
    status, _, data = stack.call("POST", "/v1/completions", {**body, "temperature": 9})
    assert status == 400 and canary.encode() not in data


def keys():
    """Every secret key file of the demo: (name, bytes to look for)."""
    found = []
    for path in (stack.dir / "state").rglob("*.key"):
        data = path.read_bytes()
        for piece in data.split():
            if len(piece) >= 32:
                found.append((path.name, piece))
                try:
                    found.append((path.name + " (raw)", bytes.fromhex(piece.decode())))
                except (UnicodeDecodeError, ValueError):
                    pass
    assert found, "the demo has no key files"
    return found


def not_in_logs_or_metrics():
    data = stack.logs()
    for url in stack.info["proxy_urls"]:
        data += stack.call("GET", "/metrics", url=url)[2]
    assert canary.encode() not in data, "the canary prompt is in a log or metric"
    for name, key in keys():
        assert key not in data, f"{name} is in a log or metric"
    assert len(data) > 500, "the logs are empty: this test looks at the wrong place"


def not_in_argv_or_environment():
    seen = 0
    for name, ids in stack.pids().items():
        for pid in ids:
            for part in ["cmdline", "environ"]:
                data = pathlib.Path(f"/proc/{pid}/{part}").read_bytes()
                seen += len(data)
                assert canary.encode() not in data, f"{name}: {part}"
                for key_name, key in keys():
                    assert key not in data, f"{key_name} in {part} of {name}"
    assert seen > 100


def not_in_files():
    for path in (stack.dir / "state").rglob("*"):
        if path.is_file() and path.suffix != ".key":
            data = path.read_bytes()
            assert canary.encode() not in data, path
            for name, key in keys():
                if (path.name, name) != ("demo.json", "tenant.key"):  # which hands the demo's API key to its user
                    assert key not in data, f"{name} is in {path}"


# Who may hold what, while a request of its own is in flight or for good: everything else must not.
ENTITLED = {
    "canary": {"airlock-engine", "airlock-tunnel", "airlock-proxy", "airlock connect"},
    "keys": {"airlock-keyd"},
}


def not_in_memory_of_others():
    if not shutil.which("gcore"):
        raise Skip("gcore (package gdb) is not there")
    searched, refused = 0, 0
    for name, ids in stack.pids().items():
        for pid in ids:
            core = stack.dir / f"core.{pid}"
            done = subprocess.run(["gcore", "-o", str(stack.dir / "core"), str(pid)], capture_output=True, text=True)
            if not core.exists():
                # The process refused to be traced: nobody but root in its namespaces could have read it.
                assert "ptrace" in done.stderr or "ttach" in done.stderr, done.stderr
                refused += 1
                continue
            data = core.read_bytes()
            core.unlink()
            searched += 1
            assert b"airlock" in data, f"the image of {name} is empty: this test looks at the wrong place"
            if name not in ENTITLED["canary"]:
                assert canary.encode() not in data, f"the canary is in the memory of {name}"
            if name not in ENTITLED["keys"]:
                for key_name, key in keys():
                    if not key_name.startswith("tenant"):
                        assert key not in data, f"{key_name} is in the memory of {name}"
    assert searched + refused >= 6, f"only {searched + refused} processes were looked at"
    if searched == 0:
        raise Skip("every process refused to be traced: no image was searched")
    print(f"    {searched} memory images searched, {refused} processes refused to be traced")


def no_plain_weights_on_disk():
    plain = pathlib.Path(tiny_model()).read_bytes()
    piece = plain[len(plain) // 2:len(plain) // 2 + 64]
    for path in (stack.dir / "state").rglob("*"):
        if path.is_file():
            assert piece not in path.read_bytes(), f"{path} holds weights in plain"


def main():
    global stack
    with Stack(tiny_model()) as stack:
        run([send_canary, not_in_logs_or_metrics, not_in_argv_or_environment, not_in_files, no_plain_weights_on_disk,
             not_in_memory_of_others])


main()
