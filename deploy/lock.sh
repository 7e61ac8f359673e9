#!/bin/sh
# Pin every dependency with its hashes: requirements.lock (all) and requirements-run.lock (without
# the tools for tests), with the same versions in both. $1 is the environment's Python.
# llama-cpp-python is left out: deploy/build_llama.py builds it, with its own hash.
set -e
"$1" -m pip install -q --disable-pip-version-check uv
uv="$(dirname "$1")/uv"

pin() {
    output=$1
    shift
    "$uv" pip compile --universal --python-version 3.11 --no-emit-package llama-cpp-python \
        --generate-hashes -q --custom-compile-command "make lock" "$@" pyproject.toml -o "$output"
}

pin requirements.lock --extra dev
pin requirements-run.lock --constraint requirements.lock

# The clients of `make test-clients`, in an environment of their own.
"$uv" pip compile --universal --python-version 3.11 --generate-hashes -q \
    --custom-compile-command "make lock" tests/clients/requirements.in -o requirements-clients.lock
