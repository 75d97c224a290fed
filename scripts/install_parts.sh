#!/bin/sh
# Installs the real servers that tests talk to (Debian, as root). Tests whose part is missing are skipped, in CI they fail.
set -eu
packages="slurm-wlm slurmdbd slurmrestd slurm-wlm-jwt-plugin slurm-wlm-torque munge mariadb-server sudo curl"
missing=""
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -q
    # No service is started: tests start their own, in private directories.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi
