// Package sidecar composes the runtime: upstreams, cache, limiters, gateway, API, control and history,
// from one configuration, into one Run that ends in order and leaves nothing behind.
package sidecar
