package upstream

import (
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// newTransport makes the way to a Redis over HTTP, which counts, admits and charges as a connection
// over TCP does.
func (u *Upstream) newTransport() (*rest.Transport, error) {
	conf, err := u.opts.TLS.config()
	if err != nil {
		return nil, err
	}
	o := rest.Options{
		URL: u.opts.REST.URL, Token: u.opts.REST.Token, TLS: conf, Timeout: u.opts.Timeout,
		Observer: rest.Observer{
			Tag:     tagOf,
			Meter:   u.opts.Meter,
			Outcome: func(text string) meter.Outcome { return outcomeOf(replyError(text).Class) },
			Write:   func(command string) bool { return !allowedReadOnly(command) },
			Spent:   u.restSpent,
			Timed:   u.opts.Timed,
		},
	}
	if u.restricted() {
		o.Observer.Admit = func(c meter.Component, command string) error { return u.admit(command, c) }
		o.Observer.Refund = u.refund
	}
	return rest.New(o)
}

func (u *Upstream) restSpent(s rest.Spent) {
	u.commands.Add(s.Commands)
	u.writes.Add(s.Writes)
	u.unanswered.Add(s.Unanswered)
	u.bytesOut.Add(s.BytesOut)
	u.bytesIn.Add(s.BytesIn)
}

// restAddr is the host and port of the endpoint.
func restAddr(o REST) (string, error) {
	t, err := rest.New(rest.Options{URL: o.URL, Token: o.Token})
	if err != nil {
		return "", err
	}
	return t.Addr(), t.Close()
}

// Instance is which process answered last over REST, when that is a gateway of this program; "" else.
// By it a sidecar notices that its upstream is itself. It sends nothing.
func (u *Upstream) Instance() string {
	if u.rest == nil {
		return ""
	}
	return u.rest.Instance()
}
