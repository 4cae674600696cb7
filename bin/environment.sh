# shellcheck shell=bash
# Sourced by the programs of bin/: makes, or finds current, the virtual environment that they run in.
#
#   source bin/environment.sh
#   make_environment EXTRA[,EXTRA...]     afterwards $python runs the package of this tree
#
# PYTHON               the interpreter to build the environment with
# OBIWAN_DPLEARN_VENV  where the environment is; .venv in the repository otherwise

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${OBIWAN_DPLEARN_VENV:-$root/.venv}
python=$venv/bin/python

# What a directory holds that these scripts may delete and make anew, and what says that an installation began.
owned=$venv/.made-by-obiwan-dplearn
unfinished=$venv/.unfinished

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# The user's PYTHONPATH may name an upstream obiwan, and what stands there goes before anything installed.
# With ours alone on it, and without the user's site directory, what runs is this tree and the tested set.
isolate() {
    export PYTHONPATH=$root/py PYTHONSAFEPATH=1 PYTHONNOUSERSITE=1
    unset PYTHONHOME
}

supported() { # supported INTERPRETER: is it Python 3.11 to 3.13?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Prints the first interpreter that the tested set is for and that can make an environment.
find_python() {
    local candidate unfit='' bare=''
    local -a candidates=(python3 python3.13 python3.12 python3.11 python)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if ! command -v "$candidate" >/dev/null; then
            continue
        elif ! supported "$candidate"; then
            unfit+=" $candidate ($("$candidate" -V 2>&1 || true))"
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            bare=${bare:-$candidate}
        else
            command -v "$candidate"
            return
        fi
    done
    [ -z "$bare" ] || die "$bare cannot make virtual environments, for it lacks ensurepip;" \
        "on Debian and Ubuntu: apt-get install python3-venv; or set PYTHON to another interpreter"
    die "needs Python 3.11 to 3.13 (${candidates[*]})${unfit:+, found only$unfit};" \
        "install one, or set PYTHON to where it is"
}

# What decides whether an installation is current: the declared needs, the tested set, the interpreter, the place.
fingerprint() {
    {
        printf '%s\n' "$root"
        "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
        cat "$root/pyproject.toml" "$root/setup.py" "$root/etc/constraints.txt"
    } | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

create_venv() {
    local base
    base=$(find_python)
    say "Making a virtual environment in $venv with $("$base" -V 2>&1)"
    { mkdir -p "$venv" && touch "$owned" "$unfinished"; } ||
        die "cannot write $venv; set OBIWAN_DPLEARN_VENV to a place that can be written"
    "$base" -m venv "$venv" || die "$base could not make a virtual environment in $venv (see above)"
    rm -f "$unfinished"
}

usable() {
    supported "$python" && "$python" -m pip --version >/dev/null 2>&1
}

# A usable environment in $venv: kept where it is sound, made anew where these scripts left a broken one.
ensure_venv() {
    if [ -e "$owned" ] && { [ -e "$unfinished" ] || ! usable; }; then
        say "The environment in $venv is unfinished or no longer works: making it again"
        rm -rf "$venv"
    fi
    if [ ! -e "$venv" ] || [ -z "$(ls -A "$venv")" ]; then
        create_venv
    elif ! usable; then
        die "$venv exists, was not made by this program, and holds no Python 3.11 to 3.13 with pip;" \
            "remove it, or set OBIWAN_DPLEARN_VENV to another place"
    fi
}

# pip install, marked while it lasts: one that was killed leaves packages that pip would take for whole.
install() { # install EXTRAS
    say "Installing obiwan-dplearn[$1] with the tested versions of etc/constraints.txt (a few minutes)"
    touch "$unfinished"
    if ! PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_REQUIRE_VIRTUALENV=0 \
        "$python" -m pip install --quiet --no-input --constraint "$root/etc/constraints.txt" \
        --editable "${root}[$1]"; then
        rm -f "$unfinished" # pip itself ended and tidied up; only what was killed is not to be trusted
        die "pip could not install what is needed (see above); it needs a package index, or its cache"
    fi
    rm -f "$unfinished"
}

make_environment() { # make_environment EXTRAS
    local stamp=$venv/.installed current
    isolate
    # Two programs at once wait for each other, where the system has flock; descriptor 9 holds the lock.
    if command -v flock >/dev/null && mkdir -p "$root/.cache" && exec 9>"$root/.cache/environment.lock"; then
        flock 9
    fi
    ensure_venv
    current=$(fingerprint)
    if ! grep -qxF "$current $1" "$stamp" 2>/dev/null; then
        install "$1"
        # Lines of the same fingerprint stay true, for every version is pinned; others no longer vouch.
        { grep -F "$current " "$stamp" 2>/dev/null || true; } >"$stamp.new"
        printf '%s %s\n' "$current" "$1" >>"$stamp.new"
        mv "$stamp.new" "$stamp"
    fi
    exec 9>&-
}
