package source

func bullmqModule() *native {
	n := &native{name: "bullmq", props: make(map[string]value)}
	for name, kind := range map[string]Kind{
		"Queue": Queue, "QueuePro": Queue, "Worker": Worker, "WorkerPro": Worker,
		"QueueEvents": QueueEvents, "QueueEventsPro": QueueEvents, "FlowProducer": FlowProducer, "FlowProducerPro": FlowProducer,
	} {
		n.props[name] = &native{name: name, call: func(ev *evaluator, c call) value { return newBullMQ(ev, kind, c) }}
	}
	n.props["default"] = n
	return n
}

func newBullMQ(ev *evaluator, kind Kind, c call) value {
	k := &construction{library: BullMQ, kind: kind, place: c.place}
	options := c.arg(1)
	switch kind {
	case Worker:
		options = c.arg(2)
	case FlowProducer:
		options = c.arg(0)
	case Queue, QueueEvents, Client, Server, Limiter:
	}
	if kind != FlowProducer {
		k.queue = nameOf(c.arg(0))
	}
	var open bool
	k.options, open = optionsOf(options)
	present := k.options.has("connection")
	k.connect(k.option("connection"), present || !open)
	o := ev.build(k)
	if kind == Worker && isCallable(c.arg(1)) {
		ev.handOver("process", c.arg(1), c.place)
	}
	return o
}

func (k *construction) bullmqMethod(ev *evaluator, name string, c call) {
	switch name {
	case "add", "addBulk":
		k.scheduled(ev, c)
	case "upsertJobScheduler":
		if k.delayed == nil {
			k.delayed = ev.useAt(c.place)
		}
	}
}
