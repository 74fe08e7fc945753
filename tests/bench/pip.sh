# pip.sh - Python packages of peers, in environments of their own in the user's cache. Sourced.

# pip_install VENV ARGUMENT...: make the environment where it is not there, then pip install. When it fails PIP_WHY says
# why in one line, for a row.
pip_install() {
    local venv=$1 log
    shift
    log=$(mktemp) || return 1
    if { [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"; } >"$log" 2>&1 &&
        "$venv/bin/pip" --quiet --disable-pip-version-check install "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    PIP_WHY=$({ grep -E '^ERROR' "$log" || cat "$log"; } | grep . | tail -n 1 | tr '\t' ' ' | cut -c1-200)
    PIP_WHY=${PIP_WHY:-it failed without a word}
    rm -f "$log"
    return 1
}
