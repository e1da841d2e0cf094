package upstash

import (
	"encoding/json"
	"errors"
)

var errNoDatabase = errors.New("an object without a database_id")

// Stats is what Upstash counted. A number is nil where the API does not tell it.
type Stats struct {
	// Of the running calendar month.
	MonthRequests       *float64
	MonthReads          *float64
	MonthWrites         *float64
	MonthScriptRequests *float64
	MonthBandwidthBytes *float64
	MonthStorageBytes   *float64
	MonthUSD            *float64

	StorageBytes *float64 // now

	// Of the running day.
	DayCommands *float64
	DayReads    *float64
	DayWrites   *float64

	// QueueOptimized is told by the API without saying what it means.
	QueueOptimized bool

	Connections  Series // open at a time
	Throughput   Series // commands a second
	DayRequests  Series // commands a day
	DayUSD       Series // dollars a day
	Keys         Series
	Disk         Series
	CommandCount map[string]Series // by command, in the API's spelling
}

// UnmarshalJSON reads the object of the API: unknown fields are left out, odd ones are not known. It fails
// for what is no object.
func (s *Stats) UnmarshalJSON(raw []byte) error {
	var o struct {
		MonthRequests  number `json:"total_monthly_requests"`
		MonthReads     number `json:"total_monthly_read_requests"`
		MonthWrites    number `json:"total_monthly_write_requests"`
		MonthScripts   number `json:"total_monthly_script_requests"`
		MonthBandwidth number `json:"total_monthly_bandwidth"`
		MonthStorage   number `json:"total_monthly_storage"`
		MonthBilling   number `json:"total_monthly_billing"`
		Storage        number `json:"current_storage"`
		DayCommands    number `json:"daily_net_commands"`
		DayReads       number `json:"daily_read_requests"`
		DayWrites      number `json:"daily_write_requests"`
		Queue          flag   `json:"queue_optimized"`
		Connections    Series `json:"connection_count"`
		Throughput     Series `json:"throughput"`
		DayRequests    Series `json:"dailyrequests"`
		DayBilling     Series `json:"dailybilling"`
		Keys           Series `json:"keyspace"`
		Disk           Series `json:"diskusage"`
		Counts         list[struct {
			Name   text   `json:"metric_identifier"`
			Points Series `json:"data_points"`
		}] `json:"command_counts"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	*s = Stats{
		MonthRequests: o.MonthRequests.pointer(), MonthReads: o.MonthReads.pointer(), MonthWrites: o.MonthWrites.pointer(),
		MonthScriptRequests: o.MonthScripts.pointer(), MonthBandwidthBytes: o.MonthBandwidth.pointer(),
		MonthStorageBytes: o.MonthStorage.pointer(), MonthUSD: o.MonthBilling.pointer(), StorageBytes: o.Storage.pointer(),
		DayCommands: o.DayCommands.pointer(), DayReads: o.DayReads.pointer(), DayWrites: o.DayWrites.pointer(),
		QueueOptimized: bool(o.Queue), Connections: o.Connections, Throughput: o.Throughput, DayRequests: o.DayRequests,
		DayUSD: o.DayBilling, Keys: o.Keys, Disk: o.Disk,
	}
	for _, c := range o.Counts {
		if c.Name == "" {
			continue
		}
		if s.CommandCount == nil {
			s.CommandCount = map[string]Series{}
		}
		s.CommandCount[string(c.Name)] = append(s.CommandCount[string(c.Name)], c.Points...)
	}
	return nil
}
