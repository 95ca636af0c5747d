# Sourced by the other scripts. `setup EXTRAS` makes .venv with the package in it; fast when that is done already.

CALLED_FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
VENV=$PWD/.venv

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "This needs Python 3.11, 3.12 or 3.13, and found none. On Debian 12 or newer: apt-get install python3" >&2
    return 1
}

# Debian's python3 comes without venv: install it, or say the one command that does.
make_venv() {
    local python package
    python=$(find_python) || return 1
    package=$python-venv
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "$python has no venv. Please run: sudo apt-get install -y $package" >&2
            return 1
        fi
        echo "installing $package" >&2
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } >&2 || return 1
    fi
    "$python" -m venv --clear "$VENV"
}

# setup test | setup test,check
setup() {
    local stamp have
    stamp="$(sha256sum <pyproject.toml) $VENV"
    for have in "$1" test,check; do
        if [ "$(cat "$VENV/.stamp-$have" 2>/dev/null)" = "$stamp" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
            return
        fi
    done
    echo "setting up .venv (once)" >&2
    # A folder that was moved, and a Python that was upgraded away, leave a .venv that does not work.
    if ! grep -qsF "$VENV/bin/python" "$VENV/bin/pip" || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        make_venv || return 1
    fi
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$1]" >&2 || return 1
    echo "$stamp" >"$VENV/.stamp-$1"
}
