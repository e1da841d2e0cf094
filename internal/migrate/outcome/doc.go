// Package outcome measures what INFO does not tell and a gate needs: what became of the jobs of a queue, how many
// wait, and what an application says of itself on its metrics page. Readings are taken at a known price, kept on
// disk so that they survive restarts, and turned into evidence with window, samples and coverage.
package outcome
