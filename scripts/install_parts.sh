#!/bin/sh
# Installs the real servers that tests talk to (Debian, as root). Tests whose part is missing are skipped, in CI they fail.
set -eu
packages="nghttp2-client curl openssl nginx libnginx-mod-stream haproxy tinyproxy chromium chromium-driver gcc libc6-dev"
packages="$packages slurm-wlm slurmdbd slurmrestd slurm-wlm-jwt-plugin slurm-wlm-torque munge mariadb-server sudo"
packages="$packages maven default-jre-headless"
# A real node of Kubernetes: its containers, their network, a shell in their image.
packages="$packages containerd runc containernetworking-plugins iproute2 busybox-static"
packages="$packages krb5-kdc krb5-admin-server krb5-user libkrb5-dev faketime slapd ldap-utils libldap-dev libsasl2-dev"
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -q
    # No service is started: tests start their own, in private directories.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
# Hadoop's jars, which Debian has not; tests look for them here.
hadoop_parts="${XDG_CACHE_HOME:-$HOME/.cache}/daskgateway/parts/hadoop-3.4.2"
if [ ! -e "$hadoop_parts/complete" ] && command -v mvn >/dev/null; then
    mvn -q -B -f "$(dirname "$0")/../tests/parts/yarn/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$hadoop_parts" -DincludeScope=runtime
    touch "$hadoop_parts/complete"
fi
# JupyterHub's proxy, which is no Debian package; it needs Node 20 or newer. Tests look for it here.
npm_parts="${XDG_CACHE_HOME:-$HOME/.cache}/daskgateway/parts"
if [ ! -x "$npm_parts/node_modules/.bin/configurable-http-proxy" ] && command -v npm >/dev/null; then
    mkdir -p "$npm_parts"
    npm install --silent --no-fund --no-audit --prefix "$npm_parts" configurable-http-proxy@5.3.0
fi
# Keycloak, built for the database in which each test's own begins: 175 MB, half a minute to a minute.
keycloak="$npm_parts/keycloak"
keycloak_pom="$(dirname "$0")/../tests/parts/keycloak/pom.xml"
if ! cmp -s "$keycloak_pom" "$keycloak/installed.xml" && command -v mvn >/dev/null; then
    rm -rf "$keycloak"
    mkdir -p "$keycloak"
    mvn -q -B -f "$keycloak_pom" dependency:copy-dependencies -DoutputDirectory="$keycloak"
    tar -xzf "$keycloak"/keycloak-*.tar.gz -C "$keycloak" --strip-components=1
    rm "$keycloak"/keycloak-*.tar.gz
    JAVA_OPTS_KC_HEAP="-Xms64m -Xmx384m" "$keycloak/bin/kc.sh" build --db=dev-file >/dev/null
    cp "$keycloak_pom" "$keycloak/installed.xml"
fi
# Kubernetes with etcd, kwok and helm, where Go is: 25 minutes from nothing on two cores, a second where they are built.
if command -v go >/dev/null; then
    sh "$(dirname "$0")/../tests/parts/kubernetes/build.sh"
fi
# An OpenID provider, likewise.
oidc="$(dirname "$0")/../tests/parts/oidc/package.json"
if ! cmp -s "$oidc" "$npm_parts/oidc/installed.json" && command -v npm >/dev/null; then
    mkdir -p "$npm_parts/oidc"
    cp "$oidc" "$npm_parts/oidc/package.json"
    npm install --silent --no-fund --no-audit --no-package-lock --prefix "$npm_parts/oidc"
    cp "$oidc" "$npm_parts/oidc/installed.json"
fi
# grpcurl, a module of Go, which is built once.
grpcurl="$(cd "$(dirname "$0")/../tests/parts/grpcurl" && pwd)"
if ! cmp -s "$grpcurl/go.sum" "$npm_parts/bin/grpcurl.sum" && command -v go >/dev/null; then
    mkdir -p "$npm_parts/bin"
    (cd "$grpcurl" && go build -o "$npm_parts/bin/grpcurl" github.com/fullstorydev/grpcurl/cmd/grpcurl)
    cp "$grpcurl/go.sum" "$npm_parts/bin/grpcurl.sum"
fi
