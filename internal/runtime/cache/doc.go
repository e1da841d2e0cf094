// Package cache keeps values in memory and in an upstream Redis, and counts what every one of them costs.
package cache
