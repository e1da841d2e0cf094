package source

// outside is a call of code that is not read. Functions that are handed to it run as often as its
// name says.
func (ev *evaluator) outside(name string, c call) value {
	for _, a := range c.args {
		switch a := a.(type) {
		case *function, *native:
			ev.handOver(name, a, c.place)
		case *object:
			if a.native == nil && a.class == nil {
				ev.handOverAll(a, c.place)
			}
		}
	}
	return &unknown{}
}

// handOverAll runs the functions in an object of options, such as handlers by name.
func (ev *evaluator) handOverAll(o *object, at place) {
	for _, k := range o.keys {
		if f, ok := o.props[k].v.(*function); ok && !ev.called[f.node] {
			ev.under(guard{kind: callbackGuard, place: at, why: "a function handed to code that is not read"}, func() {
				ev.apply(f, call{this: o, place: at})
			})
		}
	}
}

func (ev *evaluator) handOver(name string, f value, at place) {
	run := func() {
		ev.apply(f, call{this: undefined{}, args: []value{&unknown{}, &unknown{}, &unknown{}}, place: at})
	}
	if n, ok := f.(*native); ok && n.call == nil {
		return
	}
	switch how(name) {
	case runsOnce:
		run()
	case runsOften:
		ev.under(guard{kind: handlerGuard, place: at, why: "runs on every " + occasion(name)}, run)
	case runsEach:
		ev.under(guard{kind: loopGuard, place: at}, run)
	case runsMaybe:
		ev.under(guard{kind: callbackGuard, place: at, why: "a function handed to code that is not read"}, run)
	}
}

func (ev *evaluator) maybeCall(f value, at place, why string) {
	if isCallable(f) {
		ev.under(guard{kind: callbackGuard, place: at, why: why}, func() {
			ev.apply(f, call{this: undefined{}, args: []value{&unknown{}}, place: at})
		})
	}
}

type frequency int

const (
	runsMaybe frequency = iota
	runsOnce
	runsOften
	runsEach
)

// how often a function runs that is handed to a function or method of this name.
func how(name string) frequency {
	switch name {
	case "then", "listen", "connect", "ready", "start", "init", "bootstrap", "setTimeout", "setImmediate", "nextTick", "queueMicrotask", "finally", "isReady", "waitUntilReady":
		return runsOnce
	case "get", "post", "put", "patch", "delete", "all", "use", "route", "handle", "setInterval", "schedule", "cron", "command", "subscribe", "process":
		return runsOften
	case "forEach", "map", "filter", "each", "flatMap", "reduce", "some", "every", "find", "mapValues", "times":
		return runsEach
	}
	return runsMaybe
}

func occasion(name string) string {
	switch name {
	case "setInterval", "schedule", "cron":
		return "tick"
	case "subscribe":
		return "message"
	case "process":
		return "job"
	}
	return "request"
}
