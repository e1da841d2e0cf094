// Package plan says what a load costs a month on the plans that providers sell, which of them can carry
// it, and from which load on another one is cheaper.
//
// Prices are data: a catalogue with the date and the source of every price, of which one is embedded and
// which a caller can replace. What a provider does not publish per command, such as an own machine or a
// node of a managed Redis, has no price in it; the caller gives the rate.
//
// Everything here is arithmetic over plain values. It opens no connection, reads no file but what it is
// handed and takes the time as an argument.
package plan
