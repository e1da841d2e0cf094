package mover

import (
	"context"
	"slices"
)

// abreast is how many scripts of jobs that need no look are under way at once, each on a connection of its
// own: the server has the next one when it is done with one. They are not sent down one connection together,
// since a server answers all that it has read from one before it looks at any other.
const abreast = 2

// unhindered says whether several chunks may be under way at once: to asynq, when the last one was of plain
// jobs alone and nothing stays behind.
func (r *run) unhindered(c *chunk, out *outcome) bool {
	return r.opts.To.Layout == Asynq && c.skip == 0 && out.skip == 0 && len(c.shapes) > 0 && len(out.next) == 0 &&
		len(out.clash) == 0 && out.plain >= r.opts.ChunkSize
}

// stream moves plain jobs until a script meets one that is none, and returns what that one said. Which of two
// scripts comes first makes no difference: each takes the next jobs of the source and puts them behind those
// that are at the target.
func (r *run) stream(ctx context.Context, c *chunk, last outcome) (int64, outcome, error) {
	c.claims, c.skip, c.want = c.claims[:0], 0, r.opts.ChunkSize
	type answer struct {
		out outcome
		err error
	}
	answers := make(chan answer)
	begin := func() {
		var a answer
		if a.err = r.pace(ctx, r.opts.ChunkSize); a.err == nil {
			a.out, a.err = r.Mover.move(ctx, c)
		}
		answers <- a
	}
	var moved int64
	var clash []string
	var err error
	ended := false
	for range abreast {
		go begin()
	}
	for under := abreast; under > 0; {
		a := <-answers
		under--
		if a.err != nil {
			if err == nil {
				err = a.err
			}
			ended = true
			continue
		}
		a.out.clash = slices.DeleteFunc(a.out.clash, func(id string) bool { return slices.Contains(clash, id) })
		clash = append(clash, a.out.clash...) // the other script meets it too
		n, _ := r.tally(c, &a.out, nil)
		moved += n
		r.tell(c.lane, n)
		switch {
		case a.out.plain == 0 || len(a.out.next) > 0 || a.out.skip > 0:
			ended = true
			if a.out.skip >= last.skip { // of two the later one
				last = a.out
			}
		case !ended:
			under++
			go begin()
		}
	}
	last.plain, last.status, last.losses, last.clash = 0, "", 0, nil
	return moved, last, err
}
