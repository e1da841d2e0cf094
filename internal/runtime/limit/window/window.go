// Package window decides rate limits: what counts, what is admitted, and how much too much or too
// little that can be. It is arithmetic over a State and a time: it reads no clock, talks to nobody and
// starts nothing.
//
// The same rules run inside Redis as a script; a State is encoded as the text that the script keeps, and
// tests run both side by side. All times are microseconds since 1970, which is what a Redis server's
// clock gives.
package window

// An Algorithm is a way to count.
type Algorithm string

// The algorithms. "Any period" means every stretch of time as long as the period, wherever it begins.
const (
	// Sliding divides the period into parts and forgets a part when all of it is older than the period.
	// Never over the limit in any period; a request may count one part too long.
	Sliding Algorithm = "sliding-window"

	// Log keeps the time of each request. Exact to the microsecond; memory grows with the limit.
	Log Algorithm = "sliding-log"

	// Counter weighs the last period's count by how much of it the sliding window still covers. It
	// assumes that requests were spread evenly: up to 2 x limit - 1 in the worst period, and it denies
	// requests that are legal.
	Counter Algorithm = "sliding-counter"

	// Fixed counts in periods that begin at multiples of the period since 1970. Up to 2 x limit in a
	// period that spans two of them.
	Fixed Algorithm = "fixed-window"

	// Bucket is a token bucket (GCRA): burst at once, then limit a period. Up to limit + burst - 1.
	Bucket Algorithm = "token-bucket"

	// Calendar counts in days or months of a time zone. Never over the limit in one of them; up to 2 x
	// limit around midnight.
	Calendar Algorithm = "calendar"
)

// Algorithms are all algorithms, the default first.
func Algorithms() []Algorithm {
	return []Algorithm{Sliding, Log, Counter, Fixed, Bucket, Calendar}
}

// A Unit is the period of a calendar quota.
type Unit string

// The units.
const (
	Day   Unit = "day"
	Month Unit = "month"
)
