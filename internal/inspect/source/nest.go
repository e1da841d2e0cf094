package source

import "slices"

// A nestDecorator is a decorator of NestJS with what it was called with.
type nestDecorator struct {
	name  string
	args  []value
	place place
}

func (d *nestDecorator) arg(i int) value {
	if i < len(d.args) {
		return d.args[i]
	}
	return undefined{}
}

// A paramDecorator belongs to one parameter of a constructor.
type paramDecorator struct{ index, decorator value }

// A nestClass is what decorators say about a class.
type nestClass struct {
	decorators []*nestDecorator
	members    map[string][]*nestDecorator
	params     map[int]*nestDecorator
}

func (n *nestClass) find(name string) *nestDecorator {
	for _, d := range n.decorators {
		if d.name == name {
			return d
		}
	}
	return nil
}

// handles reports that a method of the class carries a decorator.
func (n *nestClass) handles(name string) bool {
	for _, list := range n.members {
		for _, d := range list {
			if d.name == name {
				return true
			}
		}
	}
	return false
}

// A dynamicModule is what BullModule's functions return.
type dynamicModule struct {
	library Library
	what    string
	args    []value
	place   place
}

// nest is what the modules of an application say.
type nest struct {
	modules []*class // decorated with @Module
	booted  bool
}

func decorator(name string) *native {
	return method(name, func(_ *evaluator, c call) value {
		return &nestDecorator{name: name, args: c.args, place: c.place}
	})
}

func nestCommon() *native {
	n := &native{name: "@nestjs/common", props: make(map[string]value)}
	for _, name := range []string{"Module", "Injectable", "Inject", "Controller", "Global", "Optional"} {
		n.props[name] = decorator(name)
	}
	n.props["default"] = n
	return n
}

func nestCore() *native {
	factory := &native{name: "NestFactory", props: make(map[string]value)}
	for _, name := range []string{"create", "createApplicationContext", "createMicroservice"} {
		factory.props[name] = method(name, func(ev *evaluator, c call) value {
			ev.bootNest(c.arg(0), c.place)
			app := newObject()
			app.open = true
			return app
		})
	}
	return &native{name: "@nestjs/core", props: map[string]value{"NestFactory": factory}}
}

func nestBull(lib Library) *native {
	module := &native{name: "BullModule", props: make(map[string]value)}
	for _, name := range []string{"forRoot", "forRootAsync", "registerQueue", "registerQueueAsync", "registerFlowProducer", "registerFlowProducerAsync"} {
		module.props[name] = method(name, func(_ *evaluator, c call) value {
			return &dynamicModule{library: lib, what: name, args: c.args, place: c.place}
		})
	}
	host := &native{name: "WorkerHost", call: func(*evaluator, call) value {
		o := newObject()
		o.open = true
		return o
	}}
	n := &native{name: "@nestjs/" + string(lib), props: map[string]value{
		"BullModule": module, "WorkerHost": host, "QueueEventsHost": host,
	}}
	for _, name := range []string{
		"Processor", "Process", "InjectQueue", "InjectFlowProducer", "OnWorkerEvent", "QueueEventsListener", "OnQueueEvent",
		"OnGlobalQueueCompleted", "OnGlobalQueueFailed", "OnGlobalQueueActive", "OnGlobalQueueProgress", "OnGlobalQueueWaiting",
		"OnGlobalQueueStalled", "OnGlobalQueueDrained", "OnGlobalQueueError", "OnQueueCompleted", "OnQueueFailed", "OnQueueActive", "OnQueueError",
	} {
		n.props[name] = decorator(name)
	}
	return n
}

// decorate is __decorateClass(decorators, target, key?, kind?).
func decorate(ev *evaluator, c call) value {
	list, _ := c.arg(0).(*array)
	if list == nil {
		return c.arg(1)
	}
	switch target := c.arg(1).(type) {
	case *class:
		key, member := c.arg(2).(string)
		for _, v := range list.items {
			if member {
				target.nest.member(key, v)
				continue
			}
			ev.decorateClass(target, v)
		}
	case *object:
		if key, ok := c.arg(2).(string); ok && target.class != nil {
			for _, v := range list.items {
				target.class.nest.member(key, v)
			}
		}
	}
	return c.arg(1)
}

func (n *nestClass) member(key string, v value) {
	if d, ok := v.(*nestDecorator); ok {
		if n.members == nil {
			n.members = make(map[string][]*nestDecorator)
		}
		n.members[key] = append(n.members[key], d)
	}
}

func (ev *evaluator) decorateClass(c *class, v value) {
	switch d := v.(type) {
	case *nestDecorator:
		c.nest.decorators = append(c.nest.decorators, d)
		if d.name == "Module" && !slices.Contains(ev.nest.modules, c) {
			ev.nest.modules = append(ev.nest.modules, c)
		}
	case *paramDecorator:
		i, ok := d.index.(float64)
		inner, isNest := d.decorator.(*nestDecorator)
		if ok && isNest {
			if c.nest.params == nil {
				c.nest.params = make(map[int]*nestDecorator)
			}
			c.nest.params[int(i)] = inner
		}
	}
}
