package source

import (
	"slices"
	"strings"
)

// A boot is one start of a NestJS application.
type boot struct {
	ev    *evaluator
	place place
	seen  map[any]bool

	dynamics  []*dynamicModule
	providers []value

	roots  map[rootKey]value // of forRoot, by library and configuration key
	queues map[string]*construction
	tokens map[string]value
	owners map[string]*object // by token, the provider with a factory
}

type rootKey struct {
	library Library
	key     string
}

// bootNest makes what the modules below one say.
func (ev *evaluator) bootNest(root value, at place) {
	ev.nest.booted = true
	b := &boot{
		ev: ev, place: at, seen: make(map[any]bool), roots: make(map[rootKey]value),
		queues: make(map[string]*construction), tokens: make(map[string]value), owners: make(map[string]*object),
	}
	b.collect(root)
	for _, p := range b.providers {
		if o, ok := p.(*object); ok {
			if token := tokenOf(o.field("provide")); token != "" {
				b.owners[token] = o
			}
		}
	}
	for _, d := range b.dynamics {
		if strings.HasPrefix(d.what, "forRoot") {
			b.root(d)
		}
	}
	for _, d := range b.dynamics {
		if !strings.HasPrefix(d.what, "forRoot") {
			b.register(d)
		}
	}
	for _, p := range b.providers {
		b.provide(p)
	}
}

// bootRest starts modules when nothing in the code does: those that no other imports.
func (ev *evaluator) bootRest() {
	if ev.nest.booted || len(ev.nest.modules) == 0 {
		return
	}
	imported := make(map[any]bool)
	for _, c := range ev.nest.modules {
		meta, _ := c.nest.find("Module").arg(0).(*object)
		items, _, _ := ev.items(meta.field("imports"))
		for _, v := range items {
			imported[v] = true
		}
	}
	for _, c := range ev.nest.modules {
		if !imported[c] {
			ev.bootNest(c, place{mod: c.mod, at: c.node.Class})
		}
	}
}

func (b *boot) collect(v value) {
	v = likely(v)
	switch v := v.(type) {
	case *class:
		if b.seen[v] {
			return
		}
		b.seen[v] = true
		if d := v.nest.find("Module"); d != nil {
			b.members(d.arg(0))
		}
		b.providers = append(b.providers, v)
	case *dynamicModule:
		if !b.seen[v] {
			b.seen[v] = true
			b.dynamics = append(b.dynamics, v)
		}
	case *object:
		if b.seen[v] {
			return
		}
		b.seen[v] = true
		if v.has("module") {
			b.collect(v.field("module"))
			b.members(v)
		}
		if v.has("forwardRef") {
			b.collect(v.field("forwardRef"))
		}
	}
}

// members collects what a module's metadata lists.
func (b *boot) members(meta value) {
	o, ok := likely(meta).(*object)
	if !ok {
		return
	}
	for _, list := range []string{"imports", "exports"} {
		items, _, _ := b.ev.items(o.field(list))
		for _, v := range items {
			if list == "exports" {
				if _, ok := likely(v).(*dynamicModule); !ok {
					continue
				}
			}
			b.collect(v)
		}
	}
	for _, list := range []string{"providers", "controllers"} {
		items, _, _ := b.ev.items(o.field(list))
		for _, v := range items {
			if !b.seen[v] {
				b.seen[v] = true
				b.providers = append(b.providers, likely(v))
			}
		}
	}
}

// root takes the configuration that queues share.
func (b *boot) root(d *dynamicModule) {
	key, rest := "", d.args
	if s, ok := first(rest).(string); ok {
		key, rest = s, rest[1:]
	}
	v := first(rest)
	if d.what == "forRootAsync" {
		v = b.factory(v, d.place)
	}
	b.roots[rootKey{d.library, key}] = v
}

func first(list []value) value {
	if len(list) == 0 {
		return undefined{}
	}
	return list[0]
}

// factory runs useFactory of an object of asynchronous options with what it asks to be given.
func (b *boot) factory(v value, at place) value {
	o, ok := likely(v).(*object)
	if !ok || !isCallable(o.field("useFactory")) {
		return &unknown{}
	}
	var args []value
	items, _, _ := b.ev.items(o.field("inject"))
	for _, token := range items {
		args = append(args, b.token(token))
	}
	for range 4 {
		args = append(args, &unknown{})
	}
	return b.ev.apply(o.field("useFactory"), call{this: o, args: args, place: at})
}

// token is what is injected for a token.
func (b *boot) token(v value) value {
	token := tokenOf(v)
	if token == "" {
		return &unknown{}
	}
	if got, ok := b.tokens[token]; ok {
		return got
	}
	if o, ok := b.owners[token]; ok {
		b.provide(o)
		if got, ok := b.tokens[token]; ok {
			return got
		}
	}
	return &unknown{}
}

func tokenOf(v value) string {
	switch v := likely(v).(type) {
	case string:
		return v
	case *class:
		return "class " + v.mod.path + " " + v.name
	}
	return ""
}

// register makes the queues of registerQueue.
func (b *boot) register(d *dynamicModule) {
	for _, a := range d.args {
		options, ok := likely(a).(*object)
		if list, isArray := likely(a).(*array); isArray {
			b.register(&dynamicModule{library: d.library, what: d.what, args: list.items, place: d.place})
			continue
		}
		if !ok {
			options = newObject()
			options.open = true
		}
		name := nameOf(options.field("name"))
		merged := newObject()
		b.ev.spread(merged, b.roots[rootKey{d.library, nameOf(options.field("configKey"))}])
		b.ev.spread(merged, options)
		if strings.HasSuffix(d.what, "Async") {
			b.ev.spread(merged, b.factory(options, d.place))
		}
		merged.place, merged.end = options.place, options.end
		kind := Queue
		if strings.HasPrefix(d.what, "registerFlow") {
			kind = FlowProducer
		}
		b.queue(d, kind, name, merged)
	}
}

func (b *boot) queue(d *dynamicModule, kind Kind, name string, options *object) {
	at := d.place
	if options.place.mod != nil {
		at = options.place // several queues of one call are told apart
	}
	k := b.make(d.library, kind, name, options, at)
	if _, twice := b.queues[name]; !twice && kind == Queue {
		b.queues[name] = k
		b.tokens["queue "+name] = k.self
	}
	items, _, _ := b.ev.items(options.field("processors"))
	for range items {
		b.process(d.library, name, nil, d.place)
	}
}

func (b *boot) make(lib Library, kind Kind, name string, options *object, at place) *construction {
	k := &construction{library: lib, kind: kind, queue: name, place: at, options: options}
	key := "connection"
	if lib == Bull {
		key = "redis"
	}
	v := options.field(key)
	if lib == BullMQ {
		k.connect(v, v != nil || !options.open)
	} else if v == nil && options.open {
		k.link = unlinked
	}
	b.ev.build(k)
	if isCallable(k.option("createClient")) && lib == Bull {
		k.factory = true
		b.ev.bullClient(k, "client", at)
	}
	return k
}

// process makes what takes the jobs of a queue.
func (b *boot) process(lib Library, name string, settings *object, at place) {
	q := b.queues[name]
	if lib == Bull {
		if q != nil {
			q.bullMethod(b.ev, "process", call{place: at})
		}
		return
	}
	options := newObject()
	if q != nil {
		b.ev.spread(options, q.options)
	} else {
		b.ev.spread(options, b.roots[rootKey{lib, ""}])
	}
	if settings != nil {
		b.ev.spread(options, settings)
		options.place, options.end = settings.place, settings.end
	}
	b.make(lib, Worker, name, options, at)
}

// provide makes a provider once.
func (b *boot) provide(v value) {
	switch p := v.(type) {
	case *class:
		b.class(p)
	case *object:
		token := tokenOf(p.field("provide"))
		if _, made := b.tokens[token]; made || token == "" {
			return
		}
		b.tokens[token] = &unknown{} // what asks for itself gets nothing
		switch {
		case p.has("useValue"):
			b.tokens[token] = p.field("useValue")
		case p.has("useFactory"):
			b.tokens[token] = b.factory(p, p.place)
		case p.has("useClass"):
			if c, ok := likely(p.field("useClass")).(*class); ok {
				b.tokens[token] = b.instance(c)
			}
		case p.has("useExisting"):
			b.tokens[token] = b.token(p.field("useExisting"))
		}
	}
}

func (b *boot) class(c *class) {
	token := tokenOf(c)
	if _, made := b.tokens[token]; made {
		return
	}
	b.tokens[token] = &unknown{}
	b.tokens[token] = b.instance(c)
	if d := c.nest.find("Processor"); d != nil {
		name := nameOf(d.arg(0))
		if o, ok := likely(d.arg(0)).(*object); ok {
			name = nameOf(o.field("name"))
		}
		settings, _ := likely(d.arg(1)).(*object)
		q := b.queues[name]
		switch {
		case q != nil && q.library == Bull:
			if c.nest.handles("Process") {
				b.process(Bull, name, nil, d.place)
			}
			for _, list := range c.nest.members {
				if slices.ContainsFunc(list, func(d *nestDecorator) bool { return strings.HasPrefix(d.name, "OnGlobal") }) {
					q.bullMethod(b.ev, "on", call{args: []value{"global:"}, place: d.place})
				}
			}
		default:
			b.process(BullMQ, name, settings, d.place)
		}
	}
	if d := c.nest.find("QueueEventsListener"); d != nil {
		name := nameOf(d.arg(0))
		options := newObject()
		if q := b.queues[name]; q != nil {
			b.ev.spread(options, q.options)
		}
		b.make(BullMQ, QueueEvents, name, options, d.place)
	}
}

// instance makes an object of a class with what its constructor asks for, and starts it.
func (b *boot) instance(c *class) value {
	var args []value
	for i := range 12 {
		d := c.nest.params[i]
		switch {
		case d != nil && d.name == "InjectQueue":
			if q, ok := b.tokens["queue "+nameOf(d.arg(0))]; ok {
				args = append(args, q)
				continue
			}
			args = append(args, &unknown{})
		case d != nil && d.name == "Inject":
			args = append(args, b.token(d.arg(0)))
		default:
			args = append(args, &unknown{})
		}
	}
	o := b.ev.construct(c, call{args: args, place: place{mod: c.mod, at: c.node.Class}})
	for _, hook := range []string{"onModuleInit", "onApplicationBootstrap"} {
		if f := c.methods[hook]; f != nil {
			b.ev.apply(f, call{this: o, place: place{mod: c.mod, at: f.node.Idx0()}})
		}
	}
	return o
}
