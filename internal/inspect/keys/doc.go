// Package keys answers what lies in a Redis: which prefixes, how large, how long it stays, which keys cost
// more to read than a plan allows, and which values another client would read differently.
//
// It looks at a sample, within a stated number of commands. Names come from the first pages of SCAN, whose
// order on Redis and Valkey is that of a hash with a random seed, so that its beginning is as good as drawn
// by lot; a server that answers in the order of names is asked for RANDOMKEY instead. Of the names some
// are looked at in detail, spread over the prefixes. A share of a sample comes with its 95% interval, and
// too small a sample says so instead of giving a number.
//
// Values are classed where they are read and never leave the package; names of keys do.
package keys
