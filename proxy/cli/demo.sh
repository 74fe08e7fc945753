#!/bin/bash
# demo.sh - the whole service on one machine: keys, policy, sealed model, every daemon, a verified answer.
# Evidence is simulated: real formats under a root made by this build. Everything is kept in one state folder.
set -uo pipefail

TOP=${TOP:-$(cd "$(dirname "$0")/../.." && pwd)}
source "$TOP/proxy/cli/setup.sh"

usage() {
    cat <<'EOF'
usage: ./airlock demo [--once] [-y] [--model NAME|PATH] [--state DIR]

  --once        exit 0 after one verified answer; otherwise serve until Ctrl-C
  -y            install missing packages without asking
  --model WHICH smollm2 (SmolLM2-135M-Instruct, the default), gemma (Gemma 3 270M, 253 MB, a base model under the
                Gemma Terms of Use), or the path of a GGUF file or of a Hugging Face folder
  --state DIR   keys, policy, sealed model and logs (default: ~/.local/state/airlock/demo); DIR/demo.json says
                where everything listens once it serves
EOF
}

ONCE=0 ASK=ask MODEL=smollm2 STATE=${XDG_STATE_HOME:-$HOME/.local/state}/airlock/demo
while [ $# -gt 0 ]; do
    case $1 in
    --once) ONCE=1 ;;
    -y) ASK="" ;;
    --model) MODEL=${2:?"--model needs a name or a path"}; shift ;;
    --state) STATE=${2:?"--state needs a folder"}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "\"$1\" is no option of demo" ;;
    esac
    shift
done

BIN=$TOP/build/demo/bin
A=$BIN/airlock

step() { printf '%6.1f s  %s\n' "$(seconds)" "$*" >&2; }
seconds() { local ms=$(($(date +%s%3N) - STARTED)); echo "$((ms / 1000)).$(((ms % 1000) / 100))"; }
STARTED=$(date +%s%3N)

# --- what is served --------------------------------------------------------------------------------

setup_packages demo $ASK
step "building"
setup_build demo
if setup_model_choose "$MODEL"; then
    MODEL=$(setup_model "$MODEL") || fail "the model $MODEL_NAME cannot be had" "its Python packages could not be fetched, see above" \
        "connect this machine to a package index, or name a GGUF file: ./airlock demo --model PATH"
    NAME=$(tr 'A-Z' 'a-z' <<<"$MODEL_NAME")
else
    [ -f "$MODEL" ] || [ -f "$MODEL/config.json" ] || fail "there is no model at \"$MODEL\"" "it is neither a file nor a folder with config.json" \
        "give the path of a GGUF file or of a Hugging Face folder, or one of the names smollm2 and gemma"
    MODEL=$(readlink -f "$MODEL")
    NAME=$(basename "$MODEL" .gguf | tr 'A-Z ' 'a-z-')
fi

umask 077 # keys are made here
mkdir -p "$STATE" && chmod 700 "$STATE" || fail "the state folder $STATE cannot be made" "" "name another: --state DIR"
STATE=$(readlink -f "$STATE")
KEYS=$STATE/keys RUN=$STATE/run LOGS=$STATE/logs
exec 9>"$STATE/lock"
flock -n 9 || fail "another demo runs with the state folder $STATE" "" "stop it, or name another folder: --state DIR"
rm -rf "$RUN" "$STATE/demo.json"
mkdir -p "$KEYS" "$RUN" "$LOGS" "$STATE/keyd" "$STATE/keyd-key" "$STATE/connect"
rm -f "$LOGS"/*.log

# --- the owner's desk: keys, sealed model, policy, acceptance, tenants ---------------------------------

must() { "$@" || fail "this step failed: ${*##*/}" "see above"; }

make_keys() {
    local key
    for key in keys/owner keys/operator keyd-key/keyd; do
        [ -f "$STATE/$key.key" ] || must "$A" policy keygen "$STATE/$key.key" >/dev/null
    done
    [ -f "$STATE/owner.keyset" ] ||
        must "$A" policy keyset "$STATE/owner.keyset" --signer "$(cat "$KEYS/owner.key.pub")" --key "$KEYS/owner.key" >"$STATE/owner.digest" 2>/dev/null
    OWNER=$(cat "$STATE/owner.digest")
}

# The sealed form is made once for each model: the same path, sizes and times of change mean the same files.
seal_model() {
    local tag
    tag=$(find -L "$MODEL" -maxdepth 1 -type f -printf '%p %s %T@\n' | sort | sha256sum | cut -c1-16)
    SEALED=$STATE/sealed/$tag
    WEIGHT_KEY=$KEYS/weight-$tag.key
    if [ ! -f "$SEALED/manifest" ] || [ ! -f "$WEIGHT_KEY" ] || [ ! -f "$SEALED.txt" ]; then
        step "sealing $(basename "$MODEL")"
        rm -rf "$SEALED" "$WEIGHT_KEY"
        mkdir -p "$STATE/sealed"
        must "$A" seal "$MODEL" "$SEALED" --key-out "$WEIGHT_KEY" $([ -t 2 ] || echo --quiet) >"$SEALED.txt"
    fi
    ROOT=$(sed -n 's/^root = "\(.*\)";/\1/p' "$SEALED.txt")
    KEY_ID=$(sed -n 's/^key_id = "\(.*\)";/\1/p' "$SEALED.txt")
}

# Texts are written anew, with a higher version, when something they name has changed.
write_texts() {
    local inputs proxy engine walls version
    proxy=$(must "$A" policy measure proxy "$BIN") && engine=$(must "$A" policy measure engine "$BIN") || exit 2
    walls=$("$A" doctor --walls) || fail "this machine's sandbox features cannot be found out" "" "try: ./airlock doctor"
    inputs="$OWNER $proxy $engine $ROOT $KEY_ID $NAME $walls $(cat "$STATE/keyd-key/keyd.key.pub" "$KEYS/operator.key.pub")"
    if [ "$(cat "$STATE/texts/inputs" 2>/dev/null)" = "$inputs" ] && [ -f "$STATE/policy.bundle" ] &&
        [ -z "$(find "$STATE/texts/inputs" -mmin +5760)" ]; then
        return
    fi
    version=$(($(cat "$STATE/version" 2>/dev/null || echo 0) + 1))
    rm -rf "$STATE/texts"
    mkdir -p "$STATE/texts"
    must "$A" policy init "$STATE/texts" --owner "$OWNER" --keyd "$(cat "$STATE/keyd-key/keyd.key.pub")" --tenants-key "$(cat "$KEYS/operator.key.pub")" \
        --model "$NAME" --root "$ROOT" --key-id "$KEY_ID" --proxy "$proxy" --engine "$engine" --line Genoa --walls "$walls" --simulated >/dev/null
    sed -i "s/^version = 1;/version = $version;/" "$STATE/texts/policy.conf" "$STATE/texts/tenants.conf"
    must "$A" policy tenant add "$STATE/texts/tenants.conf" --name demo >"$KEYS/tenant.key" 2>/dev/null
    must "$A" policy sign "$STATE/texts/policy.conf" --type policy --key "$KEYS/owner.key" >/dev/null
    must "$A" policy sign "$STATE/texts/tenants.conf" --type tenants --key "$KEYS/operator.key" >/dev/null
    must "$A" policy sign "$SEALED/manifest" --type artefact --key "$KEYS/owner.key" >/dev/null
    must "$A" policy bundle "$STATE/policy.bundle" --keyset "$STATE/owner.keyset" --policy "$STATE/texts/policy.conf" >/dev/null
    echo "$version" >"$STATE/version"
    echo "$inputs" >"$STATE/texts/inputs"
}

# --- the daemons -------------------------------------------------------------------------------------

# A free port on 127.0.0.1, the preferred one where nobody has it.
free_ports() {
    python3 - "$@" <<'EOF'
import socket, sys
held = []
for wanted in map(int, sys.argv[1:]):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", wanted))
    except OSError:
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
    held.append(s)
print(*(s.getsockname()[1] for s in held))
EOF
}

# In a unit's shell: end its daemon.
stop_unit() {
    [ $child = 0 ] || kill -TERM $child 2>/dev/null
    wait $child 2>/dev/null
    ended_at_stop $?
}

# A crash on the way out is a defect, too (SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV).
ended_at_stop() {
    case $1 in 132 | 134 | 135 | 136 | 139) say "demo: $name crashed while it was stopped (code $1): see $LOGS/$name.log" ;; esac
}

# unit NAME COMMAND...: keep a daemon running; after an unexpected end it starts anew, later each time, up to 5 s.
unit() {
    local name=$1
    shift
    (
        delay=1
        child=0
        trap 'touch "$RUN/stopping"; stop_unit; exit 0' TERM INT
        exec 9>&-
        while [ ! -e "$RUN/stopping" ]; do
            begun=$SECONDS
            "$@" >>"$LOGS/$name.log" 2>&1 &
            child=$!
            echo $child >"$RUN/$name.pid"
            wait $child 2>/dev/null # without the shell's own line about a killed one
            code=$?
            [ ! -e "$RUN/stopping" ] || { ended_at_stop $code; break; }
            [ $((SECONDS - begun)) -lt 30 ] || delay=1
            echo "demo: $name ended with code $code; starting it again in $((delay * 200)) ms" >>"$LOGS/$name.log"
            echo $code >"$RUN/$name.ended"
            sleep "$((delay / 5)).$((delay % 5 * 2))"
            delay=$((delay < 25 ? delay * 2 : 25))
        done
    ) &
    UNITS="${UNITS:-} $!"
}

write_daemon_configs() {
    local i ports
    ports=$(free_ports 8461 8463 8464 8465 8466 8467 8468) || fail "no free ports on 127.0.0.1" "see above"
    read -r CONNECT_PORT HTTPS0 HTTPS1 TUNNEL0 TUNNEL1 KEYD_ENGINES KEYD_PROXIES <<<"$ports"
    cat >"$RUN/keyd.conf" <<EOF
listen_engines = [ "127.0.0.1:$KEYD_ENGINES" ];
listen_proxies = [ "127.0.0.1:$KEYD_PROXIES" ];
state = "$STATE/keyd";
documents = "$STATE/policy.bundle";
tenants = "$STATE/texts/tenants.conf";
key = "$STATE/keyd-key/keyd.key";
weights = ( { model = "$NAME"; file = "$WEIGHT_KEY"; } );
EOF
    for i in 0 1; do
        local https=HTTPS$i tunnel=TUNNEL$i
        cat >"$RUN/proxy$i.conf" <<EOF
listen = "127.0.0.1:${!https}";
tunnel_listen = [ "127.0.0.1:${!tunnel}" ];
keyd = [ "127.0.0.1:$KEYD_PROXIES" ];
policy = "$STATE/policy.bundle";
owner = "$OWNER";
tenants = "$STATE/texts/tenants.conf";
tls = { names = [ "localhost", "127.0.0.1" ]; authority = "$STATE/ca.pem"; };
EOF
    done
    cat >"$RUN/engine.conf" <<EOF
policy = "$STATE/policy.bundle";
owner = "$OWNER";
model = "$SEALED";
served_model_name = [ "$NAME" ];
proxies = [ "127.0.0.1:$TUNNEL0", "127.0.0.1:$TUNNEL1" ];
keyd = [ "127.0.0.1:$KEYD_ENGINES" ];
EOF
}

start_daemons() {
    unit keyd "$BIN/airlock-keyd" "$RUN/keyd.conf"
    unit proxy0 "$BIN/airlock-proxy" --config "$RUN/proxy0.conf"
    unit proxy1 "$BIN/airlock-proxy" --config "$RUN/proxy1.conf"
    unit engine "$BIN/airlock-engine" --config "$RUN/engine.conf"
    unit connect "$A" connect --listen "127.0.0.1:$CONNECT_PORT" --acceptance "$STATE/texts/acceptance.conf" \
        --state "$STATE/connect" "https://127.0.0.1:$HTTPS0" "https://127.0.0.1:$HTTPS1"
}

stop_daemons() {
    local u
    trap - EXIT
    touch "$RUN/stopping"
    [ -z "${UNITS:-}" ] || kill -TERM $UNITS 2>/dev/null
    for u in ${UNITS:-}; do
        timeout 12 tail --pid="$u" -f /dev/null || kill -KILL "$u" $(cat "$RUN"/*.pid) 2>/dev/null # one that is frozen, too
    done
}

# --- waiting, showing ---------------------------------------------------------------------------------

serves() { curl -sf --max-time 2 --cacert "$STATE/ca.pem" "https://127.0.0.1:$1/health" >/dev/null 2>&1; }

wait_until_served() {
    local end=$((SECONDS + ${AIRLOCK_DEMO_WAIT:-90})) port unit
    for port in "$HTTPS0" "$HTTPS1"; do
        until serves "$port"; do
            for unit in keyd proxy0 proxy1 engine connect; do
                if [ -e "$RUN/$unit.ended" ] && [ "$(cat "$RUN/$unit.ended")" = 2 ]; then
                    tail -n 15 "$LOGS/$unit.log" >&2
                    fail "$unit could not start" "see above and $LOGS/$unit.log"
                fi
            done
            [ $SECONDS -lt $end ] || { tail -qn 4 "$LOGS"/*.log >&2; fail "the service did not come up" "see the logs in $LOGS"; }
            sleep 0.1
        done
    done
}

# demo.json: where everything listens and which processes there are; written whole, and anew when a unit was restarted.
write_info() {
    python3 - "$STATE" "$RUN" "http://127.0.0.1:$CONNECT_PORT" "https://127.0.0.1:$HTTPS0" "https://127.0.0.1:$HTTPS1" "$NAME" <<'EOF'
import json, os, pathlib, sys
state, run, connect, proxy0, proxy1, name = sys.argv[1:]
children, what = {}, {}
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit():
        try:
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            what[int(entry.name)] = ((entry / "comm").read_text().strip(), stat[0])
            children.setdefault(int(stat[1]), []).append(int(entry.name))
        except OSError:
            pass
def below(pid):
    return [pid] + [q for c in children.get(pid, []) for q in below(c)]
pids = {}
for unit, program in [("keyd", "airlock-keyd"), ("proxy0", "airlock-proxy"), ("proxy1", "airlock-proxy"), ("engine", "airlock-engine"),
                      ("connect", "airlock connect")]:
    try:
        first = int(pathlib.Path(run, unit + ".pid").read_text())
    except (OSError, ValueError):
        continue
    for pid in below(first):
        comm = what.get(pid, ("", "Z"))
        if comm[1] == "Z":
            continue
        label = program if pid == first else comm[0] if comm[0] in ("airlock-tunnel",) else "airlock-attester"
        pids.setdefault(label, []).append(pid)
info = {"connect_url": connect, "proxy_urls": [proxy0, proxy1], "api_key": pathlib.Path(state, "keys/tenant.key").read_text().strip(),
        "ca_file": state + "/ca.pem", "model": name, "pids": pids, "policy": state + "/policy.bundle",
        "acceptance": state + "/texts/acceptance.conf", "logs": state + "/logs"}
path = pathlib.Path(state, "demo.json")
text = json.dumps(info, indent=1)
if not path.exists() or path.read_text() != text:
    fd = os.open(str(path) + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, text.encode())
    os.close(fd)
    os.rename(str(path) + ".new", path)
EOF
}

# One question, streamed. A base model without a chat template gets the text to go on with instead.
ask() {
    python3 - "http://127.0.0.1:$CONNECT_PORT/v1" "$KEYS/tenant.key" "$NAME" "$1" "$2" "$RUN/base-model" <<'EOF'
import json, pathlib, sys, time, urllib.error, urllib.request
base, key, model, question, beginning, mark = sys.argv[1:]
fields = {"model": model, "stream": True, "temperature": 0, "max_tokens": 64, "stream_options": {"include_usage": True}}

def send(path, **more):
    headers = {"Authorization": "Bearer " + open(key).read().strip(), "Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(base + path, json.dumps({**fields, **more}).encode(), headers), timeout=60)

def text_of(choice):
    return choice.get("text") or choice.get("delta", {}).get("content") or ""

begun, first, usage, done = time.monotonic(), None, None, False
try:
    try:
        answer, text = send("/chat/completions", messages=[{"role": "user", "content": question}]), question + "\n"
    except urllib.error.HTTPError as e:
        problem = json.loads(e.read())["error"]
        if problem["param"] == "model" and e.code == 400: # an engine that serves vectors (--runner pooling)
            vector = json.loads(send("/embeddings", input=question).read())["data"][0]["embedding"]
            print(f"\n> {question}\na vector of {len(vector)} numbers")
            sys.exit(0 if vector else "the vector is empty")
        if e.code != 400 or problem["param"] != "messages":
            sys.exit("no answer: " + json.dumps(problem))
        answer, text = send("/completions", prompt=beginning), beginning
        pathlib.Path(mark).touch()
except urllib.error.HTTPError as e:
    sys.exit("no answer: " + e.read().decode())
print("\n> " + text, end="")
for line in answer:
    if not line.startswith(b"data: "):
        continue
    data = line[6:].strip()
    if data == b"[DONE]":
        done = True
        break
    event = json.loads(data)
    if "error" in event:
        sys.exit("\nthe answer broke off: " + json.dumps(event["error"]))
    usage = event.get("usage") or usage
    for choice in event["choices"]:
        first = first or time.monotonic()
        sys.stdout.write(text_of(choice))
        sys.stdout.flush()
if not done or not usage or not usage["completion_tokens"]:
    sys.exit("\nthe answer ended without [DONE], or was empty")
print(f"\n\n({usage['completion_tokens']} tokens, first after {(first - begun) * 1000:.0f} ms, all in {time.monotonic() - begun:.2f} s)")
EOF
}

ready_lines() {
    local path=chat/completions call=chat.completions field='"messages":[{"role":"user","content":"Hello!"}]' \
        argument='messages=[{"role":"user","content":"Hello!"}]' text=message.content
    if [ -e "$RUN/base-model" ]; then
        path=completions call=completions field='"prompt":"Once upon a time"' argument='prompt="Once upon a time"' text=text
    fi
    cat <<EOF

airlock connect serves the OpenAI API at http://127.0.0.1:$CONNECT_PORT/v1 : each connection to a proxy is verified before a prompt leaves.

  curl http://127.0.0.1:$CONNECT_PORT/v1/$path -H "Authorization: Bearer \$(cat $KEYS/tenant.key)" \\
       -H "Content-Type: application/json" -d '{"model":"$NAME",$field}'

  python3 -c 'import openai; print(openai.OpenAI(base_url="http://127.0.0.1:$CONNECT_PORT/v1", api_key=open("$KEYS/tenant.key").read().strip()).$call.create(model="$NAME", $argument).choices[0].$text)'

Verify it yourself: $A verify https://127.0.0.1:$HTTPS0 --acceptance $STATE/texts/acceptance.conf
Logs: $LOGS   Everything else: $STATE/demo.json   Stop: Ctrl-C
EOF
}

make_keys
seal_model
write_texts
write_daemon_configs
trap stop_daemons EXIT
trap 'stop_daemons; exit 130' INT
trap 'stop_daemons; exit 143' TERM
step "starting keyd, two proxies, the engine and its tunnel, connect"
start_daemons
wait_until_served
step "verifying"
"$A" verify "https://127.0.0.1:$HTTPS0" --acceptance "$STATE/texts/acceptance.conf" ||
    fail "the service was not verified" "the verdict above says at which stage" "see the logs in $LOGS"
step "asking"
ask "What is the capital of France? Answer in one sentence." "Once upon a time" || fail "no verified answer came" "see above and $LOGS"
step "verified answer"
write_info
[ $ONCE = 0 ] || { stop_daemons; exit 0; }
ready_lines
while :; do
    sleep 0.5
    write_info
done
