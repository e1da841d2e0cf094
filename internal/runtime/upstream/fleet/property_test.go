package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A life is one replica name whose processes start, crash, sleep and leave.
type life struct {
	holding int // connections open
	asleep  time.Time
	broken  bool // slept longer than its lease, or lost its place
}

func TestNeverAboveTheCapAndNoPlaceIsLostForGood(t *testing.T) {
	const capacity, names, days = 12, 14, 2
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t)
			synctest.Test(t, func(t *testing.T) {
				p := &property{world: w, t: t, capacity: capacity}
				for range names {
					p.lives = append(p.lives, &life{})
				}
				for i := range names {
					p.all.Go(func() { p.live(i, rand.New(rand.NewPCG(seed, uint64(i))), days*24*time.Hour) })
				}
				p.all.Wait()
				time.Sleep(DefaultLease)
				last, _ := w.replica(t, "last", "1", capacity, capacity, func(o *Options) { o.Wait = -1 })
				if err := last.Join(t.Context()); err != nil {
					t.Errorf("a place was lost for good: %v", err)
				}
				t.Logf("%d joined, %d refused, %d crashed, %d slept too long; most held %d of %d; %d scripts, %d plain",
					p.joined, p.refused, p.crashed, p.lapsed, p.most, capacity, w.scripts, w.plain)
				if p.joined == 0 || p.refused == 0 || p.crashed == 0 || p.lapsed == 0 || p.most < capacity {
					t.Error("the test did not try everything")
				}
			})
		})
	}
}

type property struct {
	*world
	t        *testing.T
	capacity int
	all      sync.WaitGroup

	mu                               sync.Mutex
	lives                            []*life
	joined, refused, crashed, lapsed int
	most                             int
}

// live starts one process after another under one name.
func (p *property) live(i int, rng *rand.Rand, forHowLong time.Duration) {
	l := p.lives[i]
	end := time.Now().Add(forHowLong)
	for n := 0; time.Now().Before(end); n++ {
		time.Sleep(upTo(rng, 40*time.Minute))
		want := 1 + rng.IntN(3)
		f, _ := p.replica(p.t, fmt.Sprint("r", i), fmt.Sprint(n), want, p.capacity, func(o *Options) {
			o.Client = p.client(func() { p.sleep(l) })
			o.Wait = upTo(rng, 20*time.Minute)
			o.Event = func(e Event) {
				if e.Kind == Lost || e.Kind == Over {
					p.mu.Lock()
					l.broken = true
					p.mu.Unlock()
				}
			}
		})
		err := f.Join(context.Background())
		if _, full := errors.AsType[*FullError](err); full {
			p.count(&p.refused)
			continue
		}
		if err != nil {
			p.t.Error(err)
			return
		}
		p.open(l, want)
		p.count(&p.joined)
		p.work(l, f, rng)
	}
}

// work is the life of one process that has its place.
func (p *property) work(l *life, f *Fleet, rng *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			p.t.Error(err)
		}
	})
	time.Sleep(upTo(rng, 5*time.Hour))
	switch rng.IntN(4) {
	case 0: // it is stopped for a while, and then leaves properly
		p.mu.Lock()
		pause := upTo(rng, 4*time.Hour)
		l.asleep = time.Now().Add(pause)
		if pause > DefaultLease-DefaultRenew {
			l.broken = true // it may miss its expiry
			p.lapsed++
		}
		p.mu.Unlock()
		time.Sleep(5 * time.Hour)
	case 1: // it changes its mind
		n := 1 + rng.IntN(4)
		if err := f.Resize(context.Background(), n); err == nil {
			p.open(l, n)
		} else if _, full := errors.AsType[*FullError](err); !full {
			p.t.Error(err)
		}
		time.Sleep(upTo(rng, 2*time.Hour))
	case 2:
		p.count(&p.crashed)
		cancel()
		running.Wait()
		p.open(l, 0)
		return
	}
	cancel()
	running.Wait()
	p.open(l, 0)
	if err := f.Leave(context.Background()); err != nil {
		p.t.Error(err)
	}
}

func (p *property) sleep(l *life) {
	p.mu.Lock()
	d := time.Until(l.asleep)
	p.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

func (p *property) count(n *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
}

// open notes what a process holds, and looks at what all hold that keep to the rules.
func (p *property) open(l *life, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.holding = n
	if n == 0 {
		l.broken = false
	}
	sum := 0
	for _, other := range p.lives {
		if !other.broken {
			sum += other.holding
		}
	}
	p.most = max(p.most, sum)
	if sum > p.capacity {
		p.t.Errorf("%d connections are open, the cap is %d", sum, p.capacity)
	}
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }
