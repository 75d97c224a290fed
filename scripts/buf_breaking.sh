# Compare the public API with that of the first commit, and of the last release (the newest tag; without one, of the last commit that
# touched it before this one). An option of languages may be set where there was none; once it is set, it stays.
set -eu
first=$(git log --reverse --format=%H -- 'protos/daskgateway/v1/*.proto' | head -n 1)
last=$(git describe --tags --abbrev=0 2>/dev/null || git log -2 --format=%H -- 'protos/daskgateway/v1/*.proto' | sed -n 2p)
if [ -z "$last" ]; then
    echo "buf breaking: there is no earlier API to compare with"
    exit 0
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
buf build protos -o "$place/new.binpb"
for base in "$first" "$last"; do
    old="$place/$base"
    mkdir -p "$old"
    git archive "$base" protos/daskgateway/v1 | tar -x -C "$old"
    except=""
    if ! grep -rq '^option go_package' --include=*.proto "$old"; then
        except="FILE_SAME_CSHARP_NAMESPACE, FILE_SAME_GO_PACKAGE, FILE_SAME_JAVA_MULTIPLE_FILES, FILE_SAME_JAVA_PACKAGE"
    fi
    if ! grep -rq 'option idempotency_level' --include=*.proto "$old"; then
        except="${except:+$except, }RPC_SAME_IDEMPOTENCY_LEVEL"
    fi
    (cd "$old/protos" && buf build -o "$place/old.binpb")
    buf breaking "$place/new.binpb" --against "$place/old.binpb" \
        --config "{\"version\": \"v2\", \"breaking\": {\"use\": [\"FILE\"], \"except\": [$except]}}"
    echo "buf breaking: nothing that clients use has changed since $base"
done
