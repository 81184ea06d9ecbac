#!/usr/bin/env bash
# Build the wheel and the sdist into dist/, and try them as somebody else would get them: release.sh PYTHON [--all]
#
# The wheel is installed in a new environment without extras, and the tests that need none run against it from the
# unpacked sdist, without its src/: so the sdist is whole, and what is tried is what was installed. With --all the wheel
# is installed a second time, with all extras and what the tests need, and all tests run.
set -euo pipefail

python=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

rm -rf "$root/dist"
"$python" -m build --outdir "$root/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel=$(echo "$root"/dist/*.whl)
mkdir "$work/sdist"
tar -xzf "$root"/dist/*.tar.gz -C "$work/sdist" --strip-components 1
rm -rf "$work/sdist/src"

"$python" -m venv "$work/bare"
"$work/bare/bin/pip" install --quiet "$wheel"
cd "$work/sdist"
echo "release: without extras there are $("$work/bare/bin/pip" list --format freeze | grep -cv '^pip=\|^setuptools=') packages"
code=0
said=$("$work/bare/bin/perdure" --version 2>&1) || code=$?
if [ "$code" != 2 ] || [[ "$said" != *"pip install 'perdure[cli]'"* ]]; then
    echo "release: the command without its extra says ($code): $said"
    exit 1
fi
"$work/bare/bin/pip" install --quiet pytest pytest-timeout hypothesis
"$work/bare/bin/python" -m pytest -q -p no:cacheprovider tests/unit/machine tests/unit/snapshots tests/interop \
    tests/contracts/test_journals.py tests/contracts/test_snapshot_stores.py

if [ "${2:-}" = --all ]; then
    "$python" -m venv "$work/all"
    # The requirements for work on perdure, without perdure itself from here.
    "$work/all/bin/python" "$root/tools/requirements.py" dev docs >"$work/requirements.txt"
    "$work/all/bin/pip" install --quiet "$wheel[all]" -r "$work/requirements.txt"
    "$work/all/bin/python" -m pytest -q -p no:cacheprovider --ignore=tests/integration
    "$work/all/bin/python" -m pytest -q -p no:cacheprovider tests/integration
fi
echo "release: $(cd "$root/dist" && ls | tr '\n' ' ')are good"
