package app

import "github.com/redis/go-redis/v9"

func connect() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: "localhost:6379", PoolSize: 2})
}
