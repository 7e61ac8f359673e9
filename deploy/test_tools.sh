#!/bin/sh
# The two programs only tests need: a Redis server and an OCI registry. Installs them where it may.
missing=
command -v redis-server >/dev/null || missing="redis-server"
command -v docker-registry >/dev/null || missing="$missing docker-registry"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing for the tests:$missing"
    # A policy that says no keeps the packages from starting their services.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >/dev/null && exit 0
fi
echo "caravan: the tests need these programs on PATH: $missing" >&2
echo "         Debian, Ubuntu: sudo apt-get install $missing" >&2
echo "         macOS: brew install redis; docker-registry is github.com/distribution/distribution" >&2
exit 1
