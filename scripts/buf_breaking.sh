# Compare the public API with that of the last release (the newest tag), or of the last commit that touched it before this one.
set -eu
base=$(git describe --tags --abbrev=0 2>/dev/null || git log -2 --format=%H -- protos/daskgateway/v1/*.proto | sed -n 2p)
if [ -z "$base" ]; then
    echo "buf breaking: there is no earlier API to compare with"
    exit 0
fi
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$base" protos buf.yaml | tar -x -C "$old"
buf breaking --against "$old"
echo "buf breaking: nothing that clients use has changed since $base"
