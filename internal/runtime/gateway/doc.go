// Package gateway answers the Upstash REST protocol in front of any Redis, so that an application moves
// from a Redis connection to stateless HTTP, or from one provider to another, by changing two
// environment variables: UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN.
//
// The core is [Gateway.Handle]. It knows no HTTP stack: authentication, limits, the policy on commands,
// request ids, parsing and answering are all in it. Two thin adapters feed it: [Gateway.Serve] on a
// listener of its own (fasthttp, the fast way) and [Gateway.ServeHTTP] for a net/http server.
//
// On Linux, Serve gives the everyday requests of plain HTTP to loops: each waits for many connections at
// once, and the first one for the Redis as well (a [mux.Pump]), so that a request costs one read, one write
// and no goroutine that has to be woken. Requests are read by fasthttp's parser and answered byte for byte as
// fasthttp would. Whatever is not everyday (pipelined requests, HEAD, chunked bodies, Expect, streams, more
// than 64 KiB, many pieces, anything malformed) is handed to fasthttp with the bytes that were read, and
// its connection stays there. A descriptor belongs to the loop until it is handed over or closed.
//
// Every ordinary command travels over the one shared connection of a [mux.Mux]; a request is one append
// to it, and the reply's bytes are rewritten as JSON without being parsed into values. SSE
// subscriptions share the connection of an [upstream.Bell]; MONITOR uses the mux's lane.
//
// Commands are counted by the mux under the component "gateway". What a client's own script runs inside
// the server is not part of that count: the reply of a script does not say how many commands it ran.
package gateway
