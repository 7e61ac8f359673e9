#!/bin/sh
# Make the virtual environment $1 with a Python that Caravan supports, or say what is missing.
set -e

version_ok='import sys; sys.exit(not (3, 11) <= sys.version_info[:2])'
python=
for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if "$name" -c "$version_ok" >/dev/null 2>&1; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "caravan: no Python 3.11 or newer found. Install one (Debian: apt-get install python3" >&2
    echo "         python3-venv, macOS: brew install python) or name it: make run PYTHON=/path" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    echo "caravan: $python cannot make virtual environments: its venv module is missing." >&2
    echo "         Install it (Debian, Ubuntu: apt-get install $package) and run this again." >&2
    exit 1
fi
echo "Making the virtual environment $1 with $("$python" --version)."
"$python" -m venv "$1"
