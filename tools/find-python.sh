#!/bin/sh
# Print the Python that .venv is made with: 3.11 where there is one, otherwise the first that is new enough.
# Each candidate is run, not only looked up: a version manager's shim may exist and still refuse to start.
for name in python3.11 python3 python3.12 python3.13 python3.14; do
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        command -v "$name"
        exit 0
    fi
done
echo "perdure needs Python 3.11 or newer with its venv module (Debian: apt-get install python3.11 python3.11-venv)" >&2
exit 1
