package governor

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// How long the sweeper's lease holds and how often it is renewed, in sweeps of a replica that is not the
// sweeper. It is renewed only while there are others.
const (
	sweeperHolds  = 8
	sweeperRenews = 6
)

// rolePatience bounds how long a replica that is not the sweeper waits longer than the sweeper does.
const rolePatience = 20 * time.Second

// A role is whether this replica sweeps for all. The Governor's mutex guards it.
type role struct {
	sweeper  bool
	leased   bool          // as the lease in Redis says, and not because there is nobody else
	claim    time.Time     // when to find out anew; zero is never
	renew    time.Time     // when to renew the lease; zero is never
	patience time.Duration // random, so that not all act at once; 0 for the sweeper
}

func (g *Governor) sweeperKey() string { return "redisopt:" + g.opts.Scope + ":queue:~sweeper" }

// decide finds out whether this replica sweeps. Alone it does, and that costs nothing; with others it
// costs one SET, and a GET when another one does.
func (g *Governor) decide(ctx context.Context) error {
	g.mu.Lock()
	mode, greet := g.bell.mode, g.bell.greet
	g.bell.greet = false
	g.mu.Unlock()
	if mode != silent && greet {
		hears := hearsMessages
		if mode == tracks {
			hears = hearsPushes
		}
		if err := g.publish(ctx, helloLine+" "+hears+"\n"); err != nil {
			g.mu.Lock()
			g.bell.greet = true
			g.mu.Unlock()
			return err
		}
	}
	g.mu.Lock()
	peers := g.bell.peers
	elder := g.role.sweeper
	if peers == 0 {
		g.role = role{sweeper: true}
		g.mu.Unlock()
		return nil
	}
	if !elder {
		// Whoever was alone until now has heard of it as well, and comes first.
		g.role = role{claim: time.Now().Add(200*time.Millisecond + rand.N(300*time.Millisecond)), patience: rand.N(g.longest())}
		g.mu.Unlock()
		g.prod()
		return nil
	}
	g.mu.Unlock()
	return g.claim(ctx)
}

// longest bounds the patience of a replica that is not the sweeper.
func (g *Governor) longest() time.Duration { return min(rolePatience, g.opts.Follow) }

// claim takes the sweeper's lease if nobody has it.
func (g *Governor) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	holds := sweeperHolds * g.opts.Follow
	_, err := g.opts.Client.SetArgs(ctx, g.sweeperKey(), g.id, redis.SetArgs{Mode: "NX", TTL: holds}).Result()
	mine := err == nil
	if refusedByNil(err) {
		var holder string
		holder, err = g.opts.Client.Get(ctx, g.sweeperKey()).Result()
		mine = err == nil && holder == g.id
		if refusedByNil(err) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.role.sweeper
	g.role.sweeper, g.role.leased, g.role.claim, g.role.renew = mine, mine, time.Time{}, time.Time{}
	if mine {
		g.role.patience = 0
		g.role.renew = time.Now().Add(sweeperRenews * g.opts.Follow)
	} else if was || g.role.patience == 0 {
		g.role.patience = rand.N(g.longest())
	}
	return nil
}

// keepRole renews the lease, or finds out whether there is still a sweeper, when its time has come.
func (g *Governor) keepRole(ctx context.Context, at *times) error {
	g.mu.Lock()
	now, r := time.Now(), g.role
	g.mu.Unlock()
	claim := !r.claim.IsZero() && !now.Before(r.claim)
	if !r.renew.IsZero() && !now.Before(r.renew) {
		return g.renew(ctx)
	}
	if !claim {
		return nil
	}
	if err := g.claim(ctx); err != nil {
		return err
	}
	if g.sweeper() != r.sweeper {
		at.sweep = now.Add(g.interval())
		// Who swept until now may have been the only one to know when its delayed jobs are due.
		at.resync = now
	}
	return nil
}

// renew extends the lease, if it is still this replica's. It costs a GET and a PEXPIRE.
func (g *Governor) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	holder, err := g.opts.Client.Get(ctx, g.sweeperKey()).Result()
	if err != nil && !refusedByNil(err) {
		return err
	}
	if holder != g.id {
		return g.claim(ctx)
	}
	if err := g.opts.Client.PExpire(ctx, g.sweeperKey(), sweeperHolds*g.opts.Follow).Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.role.renew = time.Now().Add(sweeperRenews * g.opts.Follow)
	return nil
}

// resign gives the lease back, so that another replica takes over at once.
func (g *Governor) resign() {
	g.mu.Lock()
	leased := g.role.leased && g.bell.peers > 0
	g.role = role{}
	g.mu.Unlock()
	if !leased {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if holder, err := g.opts.Client.Get(ctx, g.sweeperKey()).Result(); err != nil || holder != g.id {
		return
	}
	_ = g.opts.Client.Del(ctx, g.sweeperKey()).Err() // otherwise it ends by itself
	_ = g.publish(ctx, byeLine+"\n")
}

// refusedByNil is whether the reply was that there is nothing.
func refusedByNil(err error) bool { return err == redis.Nil } //nolint:errorlint // it is never wrapped
