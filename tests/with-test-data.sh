#!/bin/sh
# Runs tests, with what they make kept in memory where there is room for it: Postgres writes files
# that nobody reads again. AMENDS_TEST_DATA names another folder.
set -eu

ROOM_KIB=$((10 * 1024 * 1024))

# Memory that is free for files is not always free: others may need it.
has_room() {
    free=$(df -Pk /dev/shm 2> /dev/null | awk 'NR == 2 { print $4 }')
    available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2> /dev/null)
    [ "${free:-0}" -ge "$ROOM_KIB" ] && [ "${available:-0}" -ge $((ROOM_KIB * 3 / 2)) ]
}

# Servers end a moment after the tests that they belong to.
clear() {
    tries=100
    while [ "$tries" -gt 0 ] && find "$AMENDS_TEST_DATA" -name postmaster.pid | grep -q .; do
        tries=$((tries - 1))
        sleep 0.1
    done
    rm -rf "$AMENDS_TEST_DATA"
}

if [ -z "${AMENDS_TEST_DATA:-}" ] && has_room; then
    AMENDS_TEST_DATA=$(mktemp -d /dev/shm/amends-tests.XXXXXX)
    export AMENDS_TEST_DATA
    # Postgres may run under an account of its own.
    chmod 755 "$AMENDS_TEST_DATA"
    trap clear EXIT
    trap 'exit 130' INT TERM
fi
"$@"
