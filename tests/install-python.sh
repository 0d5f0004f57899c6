#!/bin/sh
# Installs programs of Python's package index below the build directory, unless those that are wanted
# are there already: `sh tests/install-python.sh NAME` installs what tests/NAME/requirements.txt
# says. Needs Python 3.10 or newer.
set -eu

requirements="$(dirname "$0")/$1/requirements.txt"
folder="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/$1"

fail() {
    echo "$1: install Python 3.10 or newer with its module venv (Debian: python3-venv)" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

create() {
    has python3 && python3 -m venv --clear "$folder" >/dev/null 2>&1
}

if cmp -s "$requirements" "$folder/requirements.txt"; then
    exit 0
fi
if ! create; then
    has apt-get || fail "Python makes no virtual environment"
    [ "$(id -u)" -eq 0 ] || has sudo || fail "Python makes no virtual environment"
    echo "no Python with venv found: installing it with the system's package manager" >&2
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends python3 python3-venv
    create || fail "the package manager brought no Python that can be used"
fi
"$folder/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python is too old"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$folder/requirements.txt"
