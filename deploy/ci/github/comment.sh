#!/usr/bin/env bash
# Keeps one comment up to date: the one of a bot that begins with the marker of the body, or a new one.
# Where the token may not write, as in a pull request from a fork, it says so and the job goes on.
set -euo pipefail

if [ ! -s "${REDISOPT_COMMENT_FILE:-}" ]; then
	echo "there is no verdict to comment on"
	exit 0
fi
marker=$(head -n 1 "$REDISOPT_COMMENT_FILE")
comments=repos/$GITHUB_REPOSITORY/issues/$REDISOPT_PULL_REQUEST/comments

write() {
	local id
	id=$(MARKER=$marker gh api --paginate "$comments" \
		--jq '.[] | select(.user.type == "Bot" and (.body | startswith(env.MARKER))) | .id') || return
	id=${id%%$'\n'*}
	if [ -n "$id" ]; then
		gh api --silent -X PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F "body=@$REDISOPT_COMMENT_FILE"
	else
		gh api --silent -X POST "$comments" -F "body=@$REDISOPT_COMMENT_FILE"
	fi
}

if ! write; then
	echo "::notice title=redisopt::the comment could not be written: the job needs permissions: pull-requests: write, which forks do not have; the summary shows the same"
fi
