#!/usr/bin/env bash
# Runs the gate once: annotations to the log, the comment's body to the summary, SARIF to a file. It ends
# well whatever the verdict, which is in the output exit-code, so that the comment is written before the job
# fails.
set -euo pipefail

comment=$RUNNER_TEMP/redisopt-comment.md
sarif=$RUNNER_TEMP/redisopt.sarif
rm -f "$comment" "$sarif"

args=(audit budget -o github --code "$REDISOPT_CODE" --comment-id "$REDISOPT_COMMENT_ID"
	--report "markdown=$comment" --report "sarif=$sarif")
if [ "$REDISOPT_LIVE" != true ]; then args+=(--offline); fi
if [ -n "$REDISOPT_BASELINE" ]; then args+=(--baseline "$REDISOPT_BASELINE"); fi
if [ -n "$REDISOPT_CONFIG" ]; then args+=(--budget "$REDISOPT_CONFIG"); fi
set -f # words of the arguments, and no names of files
# shellcheck disable=SC2206
args+=($REDISOPT_ARGS)
set +f

code=0
redisopt "${args[@]}" || code=$?

{
	echo "exit-code=$code"
	if [ -s "$comment" ]; then
		echo "comment-file=$comment"
		echo "sarif=$sarif"
	fi
} >>"$GITHUB_OUTPUT"
if [ -s "$comment" ]; then
	cat "$comment" >>"$GITHUB_STEP_SUMMARY"
else
	echo "::error title=redisopt::the gate ended with code $code before a verdict; the log says why"
fi
