#!/bin/sh
# Run the long forms of the crash tests: crash.sh PYTHON SECONDS [pytest arguments]. All of them together take about
# SECONDS. A tree without any is fine; a tree whose crash tests are there and not collected is not.
python=$1
seconds=$2
shift 2
PERDURE_CRASH_SECONDS=$seconds "$python" -m pytest -m crash "$@"
code=$?
if [ "$code" -eq 5 ] && ! grep -rqE 'mark\.crash\b' tests --include='*.py'; then
    echo "no test is marked crash yet: nothing to run"
    exit 0
fi
exit "$code"
