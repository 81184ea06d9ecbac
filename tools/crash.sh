#!/bin/sh
# Run the long forms of the crash tests, and the tests of these tests: crash.sh PYTHON SECONDS [pytest arguments]. The
# long forms together take about SECONDS. A table of what was tried ends their output. From 600 seconds on, other libraries
# are compared. A tree without any crash test is fine; one whose crash tests are there and not collected is not.
python=$1
seconds=$2
shift 2
PERDURE_CRASH_SECONDS=$seconds "$python" -m pytest -m "crash or mistake" "$@"
code=$?
if [ "$code" -eq 5 ] && ! grep -rqE 'mark\.crash\b' tests --include='*.py'; then
    echo "no test is marked crash yet: nothing to run"
    exit 0
fi
if [ "$seconds" -ge 600 ]; then
    # The same for others, which says nothing about this tree: only in long runs.
    "$python" tools/crash_rivals.py 20
fi
exit "$code"
