package source

import "strings"

func bullModule() *native {
	return asModule(&native{name: "Bull", call: newBull}, "Queue")
}

// newBull is new Bull(name, url?, options?).
func newBull(ev *evaluator, c call) value {
	k := &construction{library: Bull, kind: Queue, queue: nameOf(c.arg(0)), place: c.place}
	options := c.arg(1)
	if _, isURL := likely(options).(string); isURL || envOf(options) != "" || len(c.args) > 2 {
		options = c.arg(2)
	}
	var open bool
	k.options, open = optionsOf(options)
	if open && !k.options.has("redis") && !k.options.has("createClient") {
		k.link = unlinked
	}
	o := ev.build(k)
	if f := k.option("createClient"); isCallable(f) {
		k.factory = true
		ev.bullClient(k, "client", c.place)
	}
	return o
}

// bullClient asks the application for a connection, as Bull does.
func (ev *evaluator) bullClient(k *construction, role string, at place) {
	made := ev.apply(k.option("createClient"), call{this: undefined{}, args: []value{role, newObject()}, place: at})
	if c := clientOf(made); c != nil {
		c.used = true
		c.roles = append(c.roles, role)
		if role == "client" {
			k.client = c
		}
	}
}

func (k *construction) bullMethod(ev *evaluator, name string, c call) {
	switch name {
	case "process":
		if k.processed == nil {
			k.processed = ev.useAt(c.place)
			if k.factory {
				ev.bullClient(k, "subscriber", c.place)
				ev.bullClient(k, "bclient", c.place)
			}
		}
	case "on", "once", "addListener":
		if event, _ := c.arg(0).(string); strings.HasPrefix(event, "global:") && k.listened == nil {
			k.listened = ev.useAt(c.place)
			if k.factory && k.processed == nil {
				ev.bullClient(k, "subscriber", c.place)
			}
		}
	case "add":
		k.scheduled(ev, c)
	}
}

// scheduled notes that a job is put off or repeated.
func (k *construction) scheduled(ev *evaluator, c call) {
	for _, a := range c.args {
		o, ok := a.(*object)
		k.removes = k.removes || ok && o.has("removeOnComplete")
		if ok && (o.has("delay") || o.has("repeat")) && k.delayed == nil {
			k.delayed = ev.useAt(c.place)
		}
	}
}
