#!/bin/sh
# Builds the chaos program of another commit, as target/previous/chaos. What it has in common with
# this one is built once.
set -eu

commit=$(git rev-parse --verify --quiet "$1^{commit}") || {
    echo "there is no commit $1 here; a shallow clone lacks those before" >&2
    exit 1
}
source=target/previous/source
rm -rf target/previous
mkdir -p "$source"
git archive "$commit" | tar -x -C "$source"
CARGO_TARGET_DIR=$PWD/target cargo build --quiet --locked --bin chaos \
    --manifest-path "$source/Cargo.toml"
mv target/debug/chaos target/previous/chaos
rm -rf "$source"
echo "beside: $(git log -1 --format='%h %s' "$commit")"
