#!/usr/bin/env bash
# Install the system tools that some crash tests use. Only what is missing, and only as root where apt-get exists;
# tests that need a missing tool skip themselves and say so.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
missing=()
command -v strace >/dev/null || missing+=(strace)
command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
# Both under the names that Debian gives them.
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)

if [ ${#missing[@]} -eq 0 ]; then
    echo "system tools: all there"
elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "system tools: ${missing[*]} missing and cannot be installed here (needs root and apt-get)"
else
    echo "system tools: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; }; then
        echo "system tools: ${missing[*]} could not be installed; going on without"
    fi
fi
