"""test_attacks.py - the attacks of PROTOCOL.md that need real processes, each beside the good twin."""

import json
import pathlib
import re
import socket
import ssl
import subprocess
import urllib.parse

from relay import Relay
from stack import BIN, TOP, Stack, run, tiny_model, wait_until

stack = None


def verify(url, acceptance=None, binary=BIN / "airlock"):
    """(exit code, verdict as JSON) of `airlock verify`."""
    done = subprocess.run([binary, "verify", url, "--acceptance", str(acceptance or stack.info["acceptance"]), "--json"],
                          capture_output=True, text=True, timeout=60)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"exit {done.returncode}, no JSON: {done.stdout[-500:]} {done.stderr[-1000:]}")


def refused(verdict):
    """(stage, code) of a refusal, which must say what was observed, what is required and what to do."""
    result = verdict["verdict"]
    assert result["ok"] is False and result["remedy"], result
    return result["stage"], result["code"]


def edited(name, *changes):
    """A copy of the acceptance file with text replaced; each change must apply."""
    text = pathlib.Path(stack.info["acceptance"]).read_text()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.S)
        assert count >= 1, (pattern, text)
    path = stack.dir / name
    path.write_text(text)
    return path


def flip(match):
    """The same hex with its first digit changed."""
    text = match.group(0)
    at = re.search(r"[0-9a-f]{64,}", text).start()
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1:]


def port_of(url):
    return urllib.parse.urlsplit(url).port


def a_genuine_node_is_verified():
    for url in stack.info["proxy_urls"]:
        code, verdict = verify(url)
        assert code == 0 and verdict["verdict"]["ok"] is True, verdict
        assert verdict["verdict"]["simulated"] is True, verdict


def relay_through_a_man_in_the_middle():
    relay = Relay(stack.dir, port_of(stack.info["proxy_urls"][0]))
    url = f"https://127.0.0.1:{relay.port}"
    code, verdict = verify(url)
    stage, _ = refused(verdict)
    assert code == 1 and stage == 6, (code, verdict)
    relay.close()


def a_relayed_connection_gets_no_prompt():
    relay = Relay(stack.dir, port_of(stack.info["proxy_urls"][0]))
    log = open(stack.dir / "connect.out", "wb")
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    connect = subprocess.Popen([BIN / "airlock", "connect", f"https://127.0.0.1:{relay.port}", "--listen", f"127.0.0.1:{port}",
                                "--acceptance", stack.info["acceptance"], "--state", str(stack.dir / "connect-state")],
                               stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 10, "connect to listen")
        body = stack.chat_body("a very private prompt")
        status, _, data = stack.call("POST", "/v1/chat/completions", body, url=url)
        assert status == 502, (status, data)
        error = json.loads(data)["error"]
        text = json.dumps(error)
        for part in ["stage", "code", "observed", "required", "remedy"]:
            assert part in text, error
        assert b"very private" not in relay.seen and stack.info["api_key"].encode() not in relay.seen
        assert b"/.well-known/airlock/attest" in relay.seen, "the relay saw no attestation: this test tests nothing"
    finally:
        connect.terminate()
        connect.wait(10)
        relay.close()


def an_image_the_client_does_not_know():
    """The owner's policy admits it; the client's acceptance does not: refused."""
    path = edited("image.conf", (r"engine[^}]*?[0-9a-f]{96}", flip))
    code, verdict = verify(stack.info["proxy_urls"][0], path)
    stage, name = refused(verdict)
    assert code == 1 and stage in (10, 11) and "measurement" in name, verdict


def another_owner():
    path = edited("owner.conf", (r"owner[^;]*?[0-9a-f]{128}", flip))
    code, verdict = verify(stack.info["proxy_urls"][0], path)
    stage, name = refused(verdict)
    assert code == 1 and "owner" in name, verdict


def simulated_evidence_where_it_is_not_accepted():
    chips = [verify(url)[1] for url in stack.info["proxy_urls"]]
    chips = {node["hardware"]["chip_id"] for v in chips for node in [v["node"], *v["engines"]]}
    pinned = "hardware = {\n  snp_chips = [ " + ", ".join(f'"{c}"' for c in chips) + " ];"
    path = edited("real.conf", (r"hardware = {", pinned))
    assert verify(stack.info["proxy_urls"][0], path)[0] == 0, "the pinned chips themselves must pass"
    path = edited("real.conf", (r"hardware = {", pinned), (r"simulated\s*=\s*true", "simulated = false"))
    code, verdict = verify(stack.info["proxy_urls"][0], path)
    assert code == 1 and "simulated" in refused(verdict)[1], verdict


def simulated_evidence_at_a_release_build():
    release = TOP / "build" / "release" / "bin" / "airlock"
    subprocess.run([TOP / "airlock", "build"], check=True, capture_output=True)
    chip = verify(stack.info["proxy_urls"][0])[1]["node"]["hardware"]["chip_id"]
    path = edited("release.conf", (r"hardware = {", 'hardware = {\n  snp_chips = [ "' + chip + '" ];'))
    code, verdict = verify(stack.info["proxy_urls"][0], path, binary=release)
    assert code == 1 and refused(verdict) == (5, "untrusted_root"), verdict


def tls_1_2_is_refused():
    for url in stack.info["proxy_urls"]:
        context = ssl._create_unverified_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.wrap_socket(socket.create_connection(("127.0.0.1", port_of(url)), 5))
            raise AssertionError("TLS 1.2 was accepted")
        except (ssl.SSLError, ConnectionError):
            pass
        context = ssl._create_unverified_context()
        context.wrap_socket(socket.create_connection(("127.0.0.1", port_of(url)), 5)).close()


def no_session_is_resumed():
    context = ssl._create_unverified_context()
    port = port_of(stack.info["proxy_urls"][0])
    first = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5))
    first.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert first.recv(16).startswith(b"HTTP/1.1")
    assert first.session is None or not first.session.has_ticket, "the proxy hands out tickets"
    first.close()


def what_connect_forwards_was_verified():
    answer = stack.call("POST", "/v1/completions", {"model": stack.info["model"], "prompt": "Hi", "max_tokens": 2})
    assert answer[0] == 200, answer


def main():
    global stack
    with Stack(tiny_model()) as stack:
        run([a_genuine_node_is_verified, relay_through_a_man_in_the_middle, a_relayed_connection_gets_no_prompt,
             an_image_the_client_does_not_know, another_owner, simulated_evidence_where_it_is_not_accepted,
             simulated_evidence_at_a_release_build, tls_1_2_is_refused, no_session_is_resumed,
             what_connect_forwards_was_verified])


main()
