#!/bin/sh
# Builds what tests run of Kubernetes, once: one program for all of Kubernetes and etcd, kwok and helm. Nothing is done where
# they are built already in these versions. About 14 minutes on two cores from nothing, and 25 with kwok and helm;
# `build.sh kwok` builds one. What was compiled before an interruption is not compiled again.
set -eu
cd "$(dirname "$0")"
VERSION=1.34.4 KWOK=0.8.0 HELM=3.22.0
out="${XDG_CACHE_HOME:-$HOME/.cache}/daskgateway/kubernetes-$VERSION"
go=$(command -v go || echo /usr/local/go/bin/go)
if ! [ -x "$go" ]; then
    echo "Go 1.24 or newer is needed for Kubernetes: https://go.dev/dl" >&2
    exit 1
fi
export CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false" GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"

say() { echo "$(date +%T) $*"; }

# The version that a program was built of, as it says itself: of the module that it is, or of one in it.
built() {
    [ -x "$out/$1" ] && "$go" version -m "$out/$1" 2>/dev/null |
        awk -v module="$2" '($1 == "mod" || $1 == "dep") && $2 == module { print $3 }'
}

there() {
    case $1 in
    kubernetes) [ "$(built kubernetes k8s.io/kubernetes)" = "v$VERSION" ] ;;
    kwok) [ "$(built kwok sigs.k8s.io/kwok)" = "v$KWOK" ] && [ -s "$out/stages.yaml" ] ;;
    helm) [ "$(built helm helm.sh/helm/v3)" = "v$HELM" ] ;;
    *) echo "there is no part $1: kubernetes, kwok, helm" >&2 && exit 2 ;;
    esac
}

# Runs go and says how far it is: `-v` names each package as it is compiled. What else go says is shown; its end is ours.
compile() {
    what=$1
    shift
    {
        code=0
        "$go" "$@" || code=$?
        echo "end $code"
    } 2>&1 | {
        modules=0 packages=0 code=1
        while read -r line; do
            case $line in
            "end "[0-9]*) code=${line#end } ;;
            "go: downloading "*)
                modules=$((modules + 1))
                [ $((modules % 50)) -ne 0 ] || say "$what: $modules modules downloaded"
                ;;
            *" "*) echo "$line" ;;
            *)
                packages=$((packages + 1))
                [ $((packages % 200)) -ne 0 ] || say "$what: $packages packages compiled"
                ;;
            esac
        done
        return "$code"
    }
}

kubernetes() {
    # from a copy: who changes branches meanwhile does not end the build
    mkdir -p "$out/source"
    cp go.mod go.sum main.go "$out/source/"
    say "building Kubernetes $VERSION and etcd: a quarter of an hour from nothing, some 2,700 packages"
    package=k8s.io/component-base/version
    flags="-s -w -X $package.gitVersion=v$VERSION -X $package.gitMajor=1 -X $package.gitMinor=34"
    flags="$flags -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
    (cd "$out/source" && compile Kubernetes build -v -trimpath -ldflags "$flags" -o "$out/kubernetes.new" .)
    mv "$out/kubernetes.new" "$out/kubernetes"
}

installed() { # a program of a module of its own
    GOFLAGS=-buildvcs=false GOBIN="$out/new" compile "$1" install -v -ldflags "-s -w" "$2"
}

kwok() {
    say "building kwok $KWOK: five minutes from nothing"
    installed kwok "sigs.k8s.io/kwok/cmd/kwok@v$KWOK"
    # what its nodes and pods do, in one file
    source=$(GOFLAGS=-buildvcs=false "$go" mod download -json "sigs.k8s.io/kwok@v$KWOK" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    stages="$source/kustomize/stage"
    : >"$out/stages.new"
    for file in node/fast/node-initialize.yaml node/heartbeat-with-lease/node-heartbeat-with-lease.yaml \
        pod/fast/pod-ready.yaml pod/fast/pod-complete.yaml pod/fast/pod-delete.yaml; do
        cat "$stages/$file" >>"$out/stages.new"
        printf '\n---\n' >>"$out/stages.new"
    done
    mv "$out/stages.new" "$out/stages.yaml"
    mv "$out/new/kwok" "$out/kwok"
}

helm() {
    say "building helm $HELM: five minutes from nothing"
    installed helm "helm.sh/helm/v3/cmd/helm@v$HELM"
    mv "$out/new/helm" "$out/helm"
}

main() {
    mkdir -p "$out"
    exec 9>"$out/lock"
    flock -n 9 || { say "another build of it runs; this one waits" && flock 9; }
    for part in ${*:-kubernetes kwok helm}; do
        there "$part" || "$part"
        # a program that does not say its version is not what was asked for
        there "$part" || { echo "$out/$part is not of the version that was built" >&2 && exit 1; }
    done
    if [ -x "$out/kubernetes" ]; then
        for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
            ln -sf kubernetes "$out/$name"
        done
    fi
    say "Kubernetes for tests is in $out"
}

# read to its end before it begins: this file may change meanwhile
main "$@"
exit
