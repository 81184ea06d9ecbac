#!/usr/bin/env bash
# Print one line "3.12 /path/to/python" for each released CPython from 3.12 on that works here,
# except the version given as the only argument (the one that .venv has already).
# Searched: PATH and the folders of pyenv. Each is run, because a shim may exist and still refuse to start.
set -euo pipefail

already=${1:-none}

candidates() {
    local minor folder
    for minor in 12 13 14 15; do
        type -ap "python3.$minor" || true
    done
    for folder in "${HOME:-/nowhere}"/.pyenv/versions/*/bin/python; do
        if [ -x "$folder" ]; then echo "$folder"; fi
    done
}

probe='
import ensurepip, sqlite3, ssl, sys, venv
v = sys.version_info
assert v >= (3, 12) and v.releaselevel == "final" and sys.implementation.name == "cpython"
print(f"{v.major}.{v.minor}")'

declare -A seen=()
while read -r python; do
    version=$("$python" -c "$probe" 2>/dev/null) || continue
    if [ "$version" = "$already" ] || [ -n "${seen[$version]:-}" ]; then continue; fi
    seen[$version]=1
    echo "$version $python"
done < <(candidates)
