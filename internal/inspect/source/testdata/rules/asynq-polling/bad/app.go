package app

import "github.com/hibiken/asynq"

func server() *asynq.Server {
	return asynq.NewServer(asynq.RedisClientOpt{Addr: "localhost:6379"}, asynq.Config{
		Queues: map[string]int{"mail": 2, "sms": 1},
	})
}
