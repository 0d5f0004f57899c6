#!/bin/sh
# Installs a Postgres server with the system's package manager, unless one can be used already.
# Nothing is left running: Amends starts a private server from the installed programs.
set -eu

MAJOR_MIN=14

fail() {
    echo "$1: install Postgres $MAJOR_MIN or newer, or set DATABASE_URL or AMENDS_PG_BIN" >&2
    exit 1
}

# Whether a folder holds the programs of a server that is new enough.
holds_server() {
    [ -x "$1/postgres" ] && [ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] || return 1
    major=$("$1/postgres" --version | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$MAJOR_MIN" ]
}

# The places of api/src/postgres/locate.rs.
has_server() {
    for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
        /usr/lib/postgresql*/bin /opt/homebrew/opt/postgresql*/bin \
        /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin /Library/PostgreSQL/*/bin \
        /opt/PostgreSQL/*/bin; do
        if holds_server "$bin"; then return 0; fi
    done
    if bin=$(command -v postgres) && holds_server "$(dirname "$bin")"; then return 0; fi
    bin=$(pg_config --bindir 2>/dev/null) && holds_server "$bin"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

may_become_root() {
    [ "$(id -u)" -eq 0 ] || has sudo
}

# The Debian package would create a cluster of its own and start it at every boot.
install_with_apt() {
    no_cluster=/etc/postgresql-common/createcluster.d/amends.conf
    as_root mkdir -p "${no_cluster%/*}"
    trap 'as_root rm -f "$no_cluster"' EXIT
    trap 'exit 130' INT TERM
    echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends postgresql
}

if [ -n "${DATABASE_URL:-}" ] || [ -n "${AMENDS_PG_BIN:-}" ] || has_server; then
    exit 0
fi
echo "no Postgres server found: installing one with the system's package manager" >&2
if has apt-get && may_become_root; then
    install_with_apt
elif has dnf && may_become_root; then
    as_root dnf install --assumeyes postgresql-server
elif has apk && may_become_root; then
    as_root apk add postgresql
elif has pacman && may_become_root; then
    as_root pacman -Sy --noconfirm --needed postgresql
elif has brew; then
    brew install postgresql@17
else
    fail "no package manager that can be used here"
fi
has_server || fail "the package manager brought no server that can be used"
