package source

import (
	"math"
	"testing"
)

func TestGoCodeIsCountedByWhatItsOptionsSay(t *testing.T) {
	const head = "package main\nimport (\n\t\"time\"\n\t\"github.com/redis/go-redis/v9\"\n\tjobs \"github.com/hibiken/asynq\"\n)\nvar _ = time.Second\nvar _ redis.Client\nvar _ jobs.Config\n"
	for _, tc := range []struct {
		name, code string
		want       Range
	}{
		{"a bounded pool with pipelines of its own", `var a = redis.NewClient(&redis.Options{PoolSize: 3})`, Range{Min: 1, Max: 13}},
		{"a bounded pool for everything", `var a = redis.NewClient(&redis.Options{PoolSize: 3, PipelinePoolSize: -1})`, Range{Min: 1, Max: 3}},
		{"options in a variable", `func f() { o := &redis.Options{PoolSize: 2, PipelinePoolSize: -1}; redis.NewClient(o) }`, Range{Min: 1, Max: 2}},
		{"ten for each CPU by default", `var a = redis.NewClient(&redis.Options{})`, Range{Min: 1, Max: 20, Open: true}},
		{"a loop", `func f(n []string) { for range n { redis.NewClient(&redis.Options{PoolSize: 1, PipelinePoolSize: -1}) } }`, Range{Min: 0, Max: 1, Open: true}},
		{"asynq under another name", `var a = jobs.NewServer(jobs.RedisClientOpt{PoolSize: 2}, jobs.Config{})`, Range{Min: 2, Max: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := scanDir(t, write(t, map[string]string{"main.go": head + tc.code + "\n", "main_test.go": head + tc.code}))
			if r.Connections != tc.want {
				t.Errorf("connections = %+v, want %+v", r.Connections, tc.want)
			}
		})
	}
}

// The figures are those of asynq 0.26 with eleven queues and a scheduler, measured over 180 s: 1,088
// top-level commands a minute, 46.99 M in 30 days, and 75.04 M in scripts.
func TestTheIdleCostOfAsynqIsWhatWasMeasured(t *testing.T) {
	queues := "map[string]int{"
	for _, q := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		queues += `"` + q + `": 1, `
	}
	r := scanDir(t, write(t, map[string]string{"main.go": "package main\nimport \"github.com/hibiken/asynq\"\nfunc main() {\n\topt := asynq.RedisClientOpt{}\n\tasynq.NewServer(opt, asynq.Config{Queues: " + queues + "}})\n\tasynq.NewScheduler(opt, nil)\n}\n"}))
	for what, n := range map[string][2]float64{"top-level": {r.Idle.Top.Min, 46.99e6}, "all": {r.Idle.All.Min, 46.99e6 + 75.04e6}} {
		if math.Abs(n[0]-n[1]) > 0.02*n[1] {
			t.Errorf("%s: predicted %.2f M, measured %.2f M", what, n[0]/1e6, n[1]/1e6)
		}
	}
}
