#!/bin/sh
# Builds what tests run of Kubernetes, once: one program for all of Kubernetes and etcd, kwok and helm. Nothing is done where
# they are built already. About 14 minutes on two cores from nothing, and 25 with kwok and helm; `build.sh kwok` builds one.
set -eu
cd "$(dirname "$0")"
VERSION=1.34.4 KWOK=0.8.0 HELM=3.22.0
out="${XDG_CACHE_HOME:-$HOME/.cache}/daskgateway/kubernetes-$VERSION"
go=$(command -v go || echo /usr/local/go/bin/go)
if ! [ -x "$go" ]; then
    echo "Go 1.24 or newer is needed for Kubernetes: https://go.dev/dl" >&2
    exit 1
fi
# from a copy: who changes branches meanwhile does not end the build
mkdir -p "$out/source"
cp go.mod main.go "$out/source/"
[ ! -e go.sum ] || cp go.sum "$out/source/"
cd "$out/source"
export CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false" GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
jobs=2

say() { echo "$(date +%T) $*"; }

kubernetes() {
    say "building Kubernetes $VERSION and etcd, which takes a quarter of an hour"
    package=k8s.io/component-base/version
    flags="-s -w -X $package.gitVersion=v$VERSION -X $package.gitMajor=1 -X $package.gitMinor=34"
    flags="$flags -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
    "$go" build -p "$jobs" -trimpath -ldflags "$flags" -o "$out/kubernetes.new" .
    mv "$out/kubernetes.new" "$out/kubernetes"
}

links() {
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        ln -sf kubernetes "$out/$name"
    done
}

kwok() {
    say "building kwok $KWOK"
    GOFLAGS=-buildvcs=false GOBIN="$out/new" "$go" install -p "$jobs" -ldflags "-s -w" "sigs.k8s.io/kwok/cmd/kwok@v$KWOK"
    # what its nodes and pods do, in one file
    source=$(GOFLAGS=-buildvcs=false "$go" mod download -json "sigs.k8s.io/kwok@v$KWOK" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    stages="$source/kustomize/stage"
    : >"$out/stages.yaml"
    for file in node/fast/node-initialize.yaml node/heartbeat-with-lease/node-heartbeat-with-lease.yaml \
        pod/fast/pod-ready.yaml pod/fast/pod-complete.yaml pod/fast/pod-delete.yaml; do
        cat "$stages/$file" >>"$out/stages.yaml"
        printf '\n---\n' >>"$out/stages.yaml"
    done
    mv "$out/new/kwok" "$out/kwok"
}

helm() {
    say "building helm $HELM"
    GOFLAGS=-buildvcs=false GOBIN="$out/new" "$go" install -p "$jobs" -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$HELM"
    mv "$out/new/helm" "$out/helm"
}

for part in ${*:-kubernetes kwok helm}; do
    [ -x "$out/$part" ] || "$part"
done
[ ! -x "$out/kubernetes" ] || links
say "Kubernetes for tests is in $out"
