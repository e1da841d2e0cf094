// Package forecast says what a month will come to from samples of the past: a level, a linear trend and a
// pattern by weekday, with a band that holds the truth in about 80 of 100 months, and the day on which a
// budget runs out.
//
// It is arithmetic over what it is given: pure, and without a clock. Too little data is said to be too
// little, never guessed from.
package forecast
