#!/bin/sh
# Installs what Postgres is made highly available with, by the system's package manager, unless it
# is there already: Patroni, etcd and HAProxy. The tests start them themselves, as programs.
set -eu

fail() {
    echo "$1: install Patroni 3, etcd and HAProxy" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Debian keeps HAProxy where only an administrator looks.
has_all() {
    has patroni && has patronictl && has etcd && { has haproxy || [ -x /usr/sbin/haproxy ]; }
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The Debian packages would start services of their own, now and at every boot.
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
        apt-get install --yes --no-install-recommends patroni python3-etcd etcd-server haproxy
    if has systemctl; then
        as_root systemctl disable --quiet patroni etcd haproxy || true
    fi
}

if has_all; then
    exit 0
fi
echo "no Patroni, etcd or HAProxy found: installing them with the system's package manager" >&2
[ "$(id -u)" -eq 0 ] || has sudo || fail "nobody here may install them"
has apt-get || fail "no package manager that can be used here"
install_with_apt
has_all || fail "the package manager did not bring all of them"
