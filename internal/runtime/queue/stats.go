package queue

import "time"

// Stats is what this process knows of a queue without asking.
type Stats struct {
	Queue       string        `json:"queue"`
	Mode        Mode          `json:"mode"`
	Running     int           `json:"running"`
	Concurrency int           `json:"concurrency"`
	Waiting     int           `json:"waiting"` // jobs that applications wait for in Lease
	Leased      int           `json:"leased"`  // jobs that applications have
	Enqueued    int64         `json:"enqueued"`
	Done        int64         `json:"done"`
	Failed      int64         `json:"failed_attempts"`
	Dead        int64         `json:"failed_permanently"`
	Rescheduled int64         `json:"rescheduled"`
	Wait        time.Duration `json:"wait"` // from when it could first run to being taken, of the job that was taken last
	Paused      bool          `json:"paused"`
	Draining    bool          `json:"draining"`
}
