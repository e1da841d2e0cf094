package migrate

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// DatabaseID names the database, so that what was saved of one is not taken for another's; empty when no
// migration was ever begun in it. Price: 1 command.
func DatabaseID(ctx context.Context, client redis.UniversalClient) (string, error) {
	return databaseID(ctx, client)
}
