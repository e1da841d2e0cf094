package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// NewLogger makes the logger of a sidecar: one JSON object a line, with timestamp (ISO 8601, UTC, in
// milliseconds), level, service, event, and fields in snake_case with their unit in the name. The names of
// events and fields are an interface: they do not change once released.
func NewLogger(w io.Writer, service string, level slog.Leveler) *slog.Logger {
	handler := slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				return slog.String("timestamp", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
			case slog.MessageKey:
				a.Key = "event"
			}
			return a
		},
	})
	return slog.New(handler).With("service", service)
}

// LevelOf is the level of the configuration.
func LevelOf(l config.LogLevel) slog.Level {
	switch l {
	case config.LogDebug:
		return slog.LevelDebug
	case config.LogWarn:
		return slog.LevelWarn
	case config.LogError:
		return slog.LevelError
	case config.LogInfo:
	}
	return slog.LevelInfo
}

// The events. Those about an upstream are named after what is wrong with it.
const (
	eventStarted         = "started"
	eventStopping        = "stopping"
	eventStopped         = "stopped"
	eventReloaded        = "config_reloaded"
	eventUnchanged       = "config_unchanged"
	eventInvalid         = "config_invalid"
	eventWarning         = "config_warning"
	eventRestart         = "config_restart_needed"
	eventControlChanged  = "control_changed"
	eventControlFailed   = "control_read_failed"
	eventHistoryFailed   = "history_write_failed"
	eventSpendFailed     = "spend_write_failed"
	eventQueueFailed     = "queue_failed"
	eventScheduleMissed  = "schedule_missed"
	eventSchedulesFailed = "schedules_write_failed"
	eventFleet           = "fleet_" // and the kind
	eventBudget          = "budget_level_changed"
	eventBudgetFailed    = "budget_state_failed"
	eventUpstreamDown    = "redis_unknown_error"
	eventUpstreamRefused = "redis_connection_refused"
	eventUpstreamTimeout = "redis_timeout"
	eventUpstreamBack    = "redis_recovered"
)

// upstreamEvent is the event for an upstream that fails with err.
func upstreamEvent(err error) string {
	class := upstream.Classify(err)
	if class == upstream.Timedout {
		return eventUpstreamTimeout
	}
	if slices.Contains([]upstream.Class{upstream.Refused, upstream.Unreachable, upstream.DNS}, class) {
		return eventUpstreamRefused
	}
	return eventUpstreamDown
}

// limitEvents logs what the limiters tell, at most one line a second for each rule and kind; the
// limiter sees to that.
func limitEvents(log *slog.Logger) func(limit.Event) {
	return func(e limit.Event) {
		level := slog.LevelInfo
		switch e.Kind {
		case limit.EventApproaching, limit.EventLocal:
			level = slog.LevelWarn
		case limit.EventBypassed, limit.EventClosed:
			level = slog.LevelError
		case limit.EventExceeded:
		}
		attrs := []slog.Attr{
			slog.String("operation", "rate_limit_check"), slog.String("rule", e.Rule), slog.String("user_id", e.Subject),
			slog.Bool("allowed", e.Allowed), slog.Int64("limit", e.Limit), slog.Int64("remaining", e.Remaining),
		}
		if e.Suppressed > 0 {
			attrs = append(attrs, slog.Int64("suppressed", e.Suppressed))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("cause", e.Err.Error()))
		}
		log.LogAttrs(context.Background(), level, string(e.Kind), attrs...)
	}
}

// quietly is whether err is only the consequence of stopping.
func quietly(ctx context.Context, err error) bool {
	return err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
