#!/usr/bin/env bash
# Installs the version that was asked for with Go, which checks it against the public checksum database.
set -euo pipefail

if [ "$REDISOPT_VERSION" = installed ]; then
	redisopt version
	exit 0
fi
case $REDISOPT_VERSION in
v[0-9]*) ;;
*)
	echo "::error title=redisopt::version: got '$REDISOPT_VERSION', want one such as v1.0.0, or installed"
	exit 2
	;;
esac
if ! command -v go >/dev/null; then
	echo "::error title=redisopt::Go is needed to install redisopt: run actions/setup-go before, or install redisopt and set version: installed"
	exit 2
fi
bin=$RUNNER_TEMP/redisopt-bin
GOBIN=$bin CGO_ENABLED=0 go install "github.com/redisopt/redisopt/cmd/redisopt@$REDISOPT_VERSION"
echo "$bin" >>"$GITHUB_PATH"
