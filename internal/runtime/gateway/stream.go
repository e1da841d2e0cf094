package gateway

// subscribe and monitor are completed when the bell and the lane are there.
func (x *exchange) subscribe(_ []byte, _ bool) { x.fail(400, textNoBell) }

func (x *exchange) monitor() { x.fail(400, textNoMonitor) }
