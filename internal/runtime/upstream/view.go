package upstream

import (
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// View returns a new client over the same connections whose commands are charged to c, for a caller who
// adds hooks: those of one View see nothing of what other clients send. The hooks run inside the View's
// own, so that what they see are replies and failures of the connection; they must be added before the
// first command. It must not be closed, and it sends nothing by itself.
func (u *Upstream) View(c meter.Component) redis.UniversalClient { return u.newView(c) }
