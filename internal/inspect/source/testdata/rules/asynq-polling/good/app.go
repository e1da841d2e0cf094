package app

import (
	"time"

	"github.com/hibiken/asynq"
)

func server() *asynq.Server {
	return asynq.NewServer(asynq.RedisClientOpt{Addr: "localhost:6379"}, asynq.Config{
		Queues:                   map[string]int{"mail": 2, "sms": 1},
		TaskCheckInterval:        10 * time.Second,
		DelayedTaskCheckInterval: time.Minute,
		JanitorInterval:          time.Hour,
	})
}
