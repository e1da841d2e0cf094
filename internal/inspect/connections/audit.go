package connections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// An Auditor looks at the connections of one server, once or again and again. It remembers what earlier
// looks proved, so a later one attributes more. It is for one goroutine.
type Auditor struct {
	rdb  redis.UniversalClient
	opts Options

	known  memory
	owners map[key]owner
	lookup lookup

	mu    sync.Mutex       // nodes of a cluster are asked at the same time
	heard map[string]heard // by node
}

// What was heard of a node's channels, and who had subscribed then.
type heard struct {
	by       string
	channels []string
}

// New returns an auditor of the server behind rdb. It sends nothing yet. The error joins everything
// that is wrong with the options.
func New(rdb redis.UniversalClient, opts Options) (*Auditor, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Auditor{
		rdb: rdb, opts: opts, known: make(memory), owners: make(map[key]owner), lookup: kernelProcesses,
		heard: make(map[string]heard),
	}, nil
}

// Audit looks once. Price: INFO, CLIENT LIST and CLIENT ID on each node, PUBSUB CHANNELS where somebody
// subscribes, and with Deep one HGET per BullMQ queue; no writes. What a restricted user may not read
// is named in Report.Missing; an error means that the server did not answer or told us nothing at all.
func Audit(ctx context.Context, rdb redis.UniversalClient, opts Options) (*Report, error) {
	a, err := New(rdb, opts)
	if err != nil {
		return nil, err
	}
	return a.Audit(ctx)
}

// Audit looks once more; see the function of this name.
func (a *Auditor) Audit(ctx context.Context) (*Report, error) {
	views, err := a.look(ctx, true)
	if err != nil {
		return nil, err
	}
	r := a.report(views)
	if a.opts.Deep {
		if err := a.deepen(ctx, r); err != nil {
			return nil, err
		}
	}
	a.judge(r)
	return r, nil
}

// A view is what one node answered.
type view struct {
	node     string // empty unless the server is a cluster
	at       time.Time
	server   Server
	info     string
	infoErr  error
	clients  []Client
	listErr  error
	bad      []string
	own      int64 // -1 when not known
	channels []string
	missing  []string
	commands int
}

// sharded is what a client of a cluster has and others have not.
type sharded interface {
	ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error
}

// look asks every node. Only an unanswered command is an error; a refusal is kept in the view.
func (a *Auditor) look(ctx context.Context, channels bool) ([]*view, error) {
	cluster, ok := a.rdb.(sharded)
	if !ok {
		v, err := a.lookAt(ctx, a.rdb, "", channels)
		if err != nil {
			return nil, err
		}
		return []*view{v}, nil
	}
	var mu sync.Mutex
	var views []*view
	err := cluster.ForEachShard(ctx, func(ctx context.Context, node *redis.Client) error {
		v, err := a.lookAt(ctx, node, node.Options().Addr, channels)
		if err != nil {
			return fmt.Errorf("node %s: %w", node.Options().Addr, err)
		}
		v.node = node.Options().Addr
		mu.Lock()
		defer mu.Unlock()
		views = append(views, v)
		return nil
	})
	slices.SortFunc(views, func(a, b *view) int { return cmp.Compare(a.node, b.node) })
	return views, err
}

func (a *Auditor) lookAt(ctx context.Context, rdb redis.Cmdable, name string, channels bool) (*view, error) {
	v := &view{own: -1, commands: 3}
	var sections []string
	if a.opts.Counters {
		sections = []string{"all"}
	}
	begin := time.Now()
	var info, list *redis.StringCmd
	var id *redis.IntCmd
	// One pipeline is one connection, so the id is that of the line that asks.
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		info, list, id = p.Info(ctx, sections...), p.ClientList(ctx), p.ClientID(ctx)
		return nil
	})
	v.at = begin.Add(time.Since(begin) / 2)
	if err != nil && !refused(err) {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	v.infoErr, v.listErr = info.Err(), list.Err()
	if v.infoErr != nil && v.listErr != nil {
		return nil, fmt.Errorf("read connections: neither INFO nor CLIENT LIST is allowed: %w", errors.Join(v.listErr, v.infoErr))
	}
	v.info = info.Val()
	v.server = ParseServer(v.info)
	if v.infoErr != nil {
		v.server.connected, v.server.received, v.server.rejected = -1, -1, -1
		v.missing = append(v.missing, fmt.Sprintf("limit and totals: INFO refused (%s)", v.infoErr))
	}
	if v.listErr != nil {
		v.missing = append(v.missing, fmt.Sprintf("who holds them: CLIENT LIST refused (%s)", v.listErr))
		return v, nil //nolint:nilerr // a refusal is kept in the view
	}
	v.clients, v.bad = ParseClientList(list.Val())
	if len(v.bad) > 0 {
		v.missing = append(v.missing, fmt.Sprintf("%d lines of CLIENT LIST could not be read, first: %s", len(v.bad), v.bad[0]))
	}
	if id.Err() == nil {
		v.own = id.Val()
	}
	if channels {
		if err := a.listen(ctx, rdb, name, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// listen asks a node for its channels where somebody subscribes, unless the same connections subscribed
// to as many when it was asked before.
func (a *Auditor) listen(ctx context.Context, rdb redis.Cmdable, node string, v *view) error {
	var by strings.Builder
	for _, c := range v.clients {
		if c.Sub > 0 {
			fmt.Fprintf(&by, "%d:%d ", c.ID, c.Sub)
		}
	}
	a.mu.Lock()
	before := a.heard[node]
	a.mu.Unlock()
	if by.String() == before.by {
		v.channels = before.channels
		return nil
	}
	v.commands++
	names, err := rdb.PubSubChannels(ctx, "*").Result()
	switch {
	case err == nil:
		v.channels = names
		a.mu.Lock()
		a.heard[node] = heard{by.String(), names}
		a.mu.Unlock()
	case refused(err):
		v.missing = append(v.missing, fmt.Sprintf("subscribed queues: PUBSUB CHANNELS refused (%s)", err))
	default:
		return fmt.Errorf("read channels: %w", err)
	}
	return nil
}

// refused reports that the server answered, with an error.
func refused(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, redis.Nil)
}

// report builds the inventory from what the nodes answered.
func (a *Auditor) report(views []*view) *Report {
	r := &Report{
		At: views[0].at.UTC(), Server: views[0].server, Missing: []string{},
		infos: make(map[string]Info),
		Limit: Limit{Rejected: -1},
	}
	found, lookupErr := a.owner(views)
	if lookupErr != nil {
		r.Missing = append(r.Missing, "processes: "+lookupErr.Error())
	}
	var channels []string
	for _, v := range views {
		r.Commands += v.commands
		r.infos[v.node] = Info{v.at, v.info}
		if r.infoErr == nil {
			r.infoErr = v.infoErr
		}
		r.Missing = append(r.Missing, v.missing...)
		if v.infoErr == nil {
			r.Limit.Connections += v.server.maxClients
			r.Limit.Rejected = max(r.Limit.Rejected, 0) + max(v.server.rejected, 0)
		}
		if v.listErr != nil {
			r.Total += max(v.server.connected-1, 0)
			r.Own++
			continue
		}
		if r.accepted >= 0 && v.server.received >= 0 {
			r.accepted += v.server.received
		} else {
			r.accepted = -1
		}
		channels = append(channels, v.channels...)
		for _, c := range v.clients {
			r.Connections = append(r.Connections, a.connection(v, c, found))
		}
	}
	a.sameProcessIsOwn(r.Connections)
	attribute(r.Connections, channels, a.known)
	a.count(r)
	return r
}

func (a *Auditor) connection(v *view, c Client, found map[socket]owner) Connection {
	id, _ := processID(c, found)
	return Connection{
		ID: c.ID, Node: v.node, Addr: c.Addr, Name: c.Name, Process: id, LastCommand: c.Command, Driver: c.Driver,
		Own:        c.ID == v.own || strings.HasPrefix(c.Name, a.opts.OwnName),
		Confidence: Unsure,
		Age:        c.Age, Idle: c.Idle,
		AgeSeconds: int64(c.Age / time.Second), IdleSeconds: int64(c.Idle / time.Second),
		client: c,
	}
}

// sameProcessIsOwn extends "ours" to the other connections of our own pool.
func (a *Auditor) sameProcessIsOwn(conns []Connection) {
	ours := fmt.Sprintf("pid %d", os.Getpid())
	for i := range conns {
		c := &conns[i]
		if c.Process == ours || strings.HasPrefix(c.Process, ours+" ") {
			c.Own = true
		}
		if c.Own {
			c.set(RoleApp, LibraryNone, Certain, "ours")
		}
	}
}

// owner finds the processes of this host, asking the kernel only about connections not seen before.
func (a *Auditor) owner(views []*view) (map[socket]owner, error) {
	found := make(map[socket]owner)
	asked := make(map[socket]key)
	var want []socket
	live := make(map[key]bool)
	for _, v := range views {
		for _, c := range v.clients {
			s, ok := socketOf(c)
			if !ok {
				continue
			}
			k := key{v.node, c.ID}
			live[k] = true
			if o, ok := a.owners[k]; ok {
				if o.pid != 0 {
					found[s] = o
				}
				continue
			}
			asked[s] = k
			want = append(want, s)
		}
	}
	for k := range a.owners {
		if !live[k] {
			delete(a.owners, k)
			delete(a.known, k)
		}
	}
	if len(want) == 0 {
		return found, nil
	}
	fresh, err := a.lookup(want)
	for s, k := range asked {
		o := fresh[s]
		a.owners[k] = o
		if o.pid != 0 {
			found[s] = o
		}
	}
	return found, err
}

// deepen asks each BullMQ queue's meta key for the version that opened it last.
func (a *Auditor) deepen(ctx context.Context, r *Report) error {
	for i := range r.Queues {
		q := &r.Queues[i]
		if q.Library == LibraryBull {
			continue
		}
		r.Commands++
		version, err := a.rdb.HGet(ctx, q.Prefix+":"+q.Queue+":meta", "version").Result()
		switch {
		case err == nil:
			q.Version = version
		case errors.Is(err, redis.Nil):
		case refused(err):
			r.Missing = append(r.Missing, fmt.Sprintf("library version of queue %q: HGET refused (%s)", q.Queue, err))
		default:
			return fmt.Errorf("read meta of queue %q: %w", q.Queue, err)
		}
	}
	return nil
}
