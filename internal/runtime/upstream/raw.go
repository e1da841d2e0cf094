package upstream

import (
	"context"
	"net"
)

const useRaw = "raw"

// Raw makes a connection of its own that is ready for commands: authenticated, its database selected,
// speaking RESP2. Making it costs one to four commands; what goes over it from then on is counted nowhere.
// It takes one of the places of MaxConnections until it is closed.
func (u *Upstream) Raw(ctx context.Context) (net.Conn, error) { return u.dialReady(ctx, useRaw) }
