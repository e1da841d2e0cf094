package window

import "time"

// A Bound is what an algorithm admits at worst, and how much too little it may admit.
type Bound struct {
	// Window is the stretch of time that Max is about: "any 1m0s".
	Window string `json:"window"`

	// Limit is the limit; Max the most that is ever admitted in Window; Over is Max - Limit.
	Limit int64 `json:"limit"`
	Max   int64 `json:"max"`
	Over  int64 `json:"over"`

	// TooLong is how much longer than it should a request may count. Zero is exact.
	TooLong time.Duration `json:"-"`

	// Held is how many tokens may be taken and unspent, so that others are denied too early.
	Held int64 `json:"held"`

	// Why is one sentence.
	Why string `json:"why"`
}
