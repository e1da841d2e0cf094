package source

//nolint:unparam // it answers for every name, which is what an interface asks
func (k *construction) method(ev *evaluator, self *object, name string, c call) (value, bool) {
	if k.kind == Client {
		return k.clientMethod(ev, self, name, c), true
	}
	switch k.library {
	case Bull:
		k.bullMethod(ev, name, c)
	case BullMQ:
		k.bullmqMethod(ev, name, c)
	case IORedis, NodeRedis, BeeQueue, Upstash, Ratelimit, GoRedis, Asynq:
	}
	switch name {
	case "on", "once", "addListener":
		ev.maybeCall(c.arg(1), c.place, "runs on an event")
		return self, true
	case "process":
		for _, a := range c.args {
			if isCallable(a) {
				ev.handOver("process", a, c.place)
			}
		}
		return undefined{}, true
	case "isReady", "waitUntilReady":
		return self, true
	}
	return &unknown{}, true
}

func (k *construction) property(_ *evaluator, _ *object, name string) value {
	switch name {
	case "name":
		if k.queue != "" {
			return k.queue
		}
	case "options", "opts":
		if k.options != nil {
			return k.options
		}
	case "client":
		if k.client != nil && k.client.self != nil {
			return k.client.self
		}
	}
	return nil
}
