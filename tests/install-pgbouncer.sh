#!/bin/sh
# Installs PgBouncer with the system's package manager, unless it is there already. Tests start it
# themselves, as a program.
set -eu

fail() {
    echo "$1: install PgBouncer 1.18 or newer" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Debian keeps it where only an administrator looks.
has_pgbouncer() {
    has pgbouncer || [ -x /usr/sbin/pgbouncer ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The Debian package would start one of its own.
install_with_apt() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends pgbouncer
}

if has_pgbouncer; then
    exit 0
fi
echo "no PgBouncer found: installing one with the system's package manager" >&2
[ "$(id -u)" -eq 0 ] || has sudo || fail "nobody here may install it"
if has apt-get; then
    install_with_apt
elif has dnf; then
    as_root dnf install --assumeyes pgbouncer
elif has apk; then
    as_root apk add pgbouncer
elif has pacman; then
    as_root pacman -Sy --noconfirm --needed pgbouncer
else
    fail "no package manager that can be used here"
fi
has_pgbouncer || fail "the package manager brought none"
