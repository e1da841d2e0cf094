// Package push runs jobs by sending them to the application over HTTP.
//
// # The request
//
// A job is a POST to the configured URL and nowhere else: no redirect is followed, and no proxy of the
// environment is used. The body is the payload. The headers, whose values are percent-encoded where they
// hold anything but visible ASCII, are
//
//	Redisopt-Queue, Redisopt-Job-Id, Redisopt-Job-Name    what it is
//	Redisopt-Attempt, Redisopt-Attempts                   from 1, and how many there are
//	Redisopt-Deadline                                     when the answer must be there, RFC 3339, UTC
//	Idempotency-Key                                       QUEUE/ID: the same in every attempt
//	Redisopt-Signature                                    t=UNIXTIME,v1=HEX, and a second v1 while keys change
//	traceparent, tracestate, baggage                      as the producer gave them; its other headers
//	                                                      arrive as Redisopt-Header-NAME
//
// A signature is the HMAC-SHA256, under a secret that both sides have, of these lines, each ended by a
// newline, with the body behind them: v1, the time, queue, id, name and attempt as in the headers. Verify
// checks it. To change the secret, give the receivers the new one beside the old, then sign with both,
// then take the old one away.
//
// # The answer
//
//	2xx                       done; the body is the result, up to EndpointOptions.MaxResult
//	409, 422                  a dead letter; the body's first bytes are the reason
//	429, 503 with Retry-After tried again then, without counting an attempt
//	anything else             a failed attempt: other statuses, redirects, no answer, half an answer
//
// A job is delivered at least once. When a kept-alive connection turns out to be closed before the first
// byte of an answer, the request is sent once more within the attempt, under the same Idempotency-Key.
//
// # An application that is down
//
// After EndpointOptions.Failures failed attempts in a row, of whatever jobs, the endpoint's circuit
// opens: statuses of 500 and above and missing answers count, other answers close it. While it is open
// nothing is sent but one job at a time to see whether it is back, after a pause that doubles from 1 s to
// 1 min. Jobs wait then rather than fail: Admit says not to take them from Redis, and one that was taken
// is held for up to 15 s and then put back with queue.RetryAfterError, which counts no attempt.
package push
