package upstash

import (
	"encoding/json"
	"net"
	"strings"
	"time"
)

// A Type is what is paid for a database.
type Type string

// The types.
const (
	Free    Type = "free"
	PayAsGo Type = "payg"
	Pro     Type = "pro"
	Paid    Type = "paid"
)

// A Database is what the API says of one, without its credentials. A limit of 0 is not known.
type Database struct {
	ID          string
	Name        string
	Type        Type
	State       string
	Endpoint    string // host name
	Port        int
	TLS         bool
	Region      string
	ReadRegions []string

	BudgetUSD   float64 // of a month
	Eviction    bool
	AutoUpgrade bool
	ProdPack    bool
	ACL         bool
	Replicas    int

	MaxClients          float64
	MaxRequestBytes     float64
	MaxRecordBytes      float64
	MaxStorageBytes     float64
	MaxMemoryBytes      float64
	MaxPerSecond        float64
	MaxRequests         float64 // commands a month
	IdleTimeout         time.Duration
	ScriptTimeout       time.Duration
	ScriptTimePerMinute time.Duration
}

// UnmarshalJSON reads the object of the API. Fields that it does not know are left out, credentials among
// them; one that is not of the form it has today is left at zero. It fails for what is no object, or an
// object without an id.
func (d *Database) UnmarshalJSON(raw []byte) error {
	var o struct {
		ID          text       `json:"database_id"`
		Name        text       `json:"database_name"`
		Type        text       `json:"type"`
		State       text       `json:"state"`
		Endpoint    text       `json:"endpoint"`
		Port        number     `json:"port"`
		TLS         flag       `json:"tls"`
		Primary     text       `json:"primary_region"`
		Region      text       `json:"region"`
		ReadRegions list[text] `json:"read_regions"`
		Budget      number     `json:"budget"`
		Eviction    flag       `json:"eviction"`
		AutoUpgrade flag       `json:"auto_upgrade"`
		ProdPack    flag       `json:"prod_pack_enabled"`
		ACL         flag       `json:"db_acl_enabled"`
		Replicas    number     `json:"replicas"`
		Clients     number     `json:"db_max_clients"`
		Request     number     `json:"db_max_request_size"`
		Entry       number     `json:"db_max_entry_size"`
		Disk        number     `json:"db_disk_threshold"`
		Memory      number     `json:"db_memory_threshold"`
		PerSecond   number     `json:"db_max_commands_per_second"`
		Requests    number     `json:"db_request_limit"`
		Idle        number     `json:"db_conn_idle_timeout"`
		Script      number     `json:"db_lua_timeout"`
		Credits     number     `json:"db_lua_credits_per_min"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	if o.ID == "" {
		return errNoDatabase
	}
	if o.Primary == "" {
		o.Primary = o.Region
	}
	*d = Database{
		ID: string(o.ID), Name: string(o.Name), Type: Type(strings.ToLower(string(o.Type))), State: string(o.State),
		Endpoint: string(o.Endpoint), Port: int(o.Port.value), TLS: bool(o.TLS), Region: string(o.Primary),
		BudgetUSD: o.Budget.value, Eviction: bool(o.Eviction), AutoUpgrade: bool(o.AutoUpgrade), ProdPack: bool(o.ProdPack),
		ACL: bool(o.ACL), Replicas: int(o.Replicas.value),
		MaxClients: o.Clients.value, MaxRequestBytes: o.Request.value, MaxRecordBytes: o.Entry.value,
		MaxStorageBytes: o.Disk.value, MaxMemoryBytes: o.Memory.value, MaxPerSecond: o.PerSecond.value, MaxRequests: o.Requests.value,
		IdleTimeout: time.Duration(o.Idle.value), ScriptTimeout: time.Duration(o.Script.value), ScriptTimePerMinute: time.Duration(o.Credits.value),
	}
	for _, r := range o.ReadRegions {
		d.ReadRegions = append(d.ReadRegions, string(r))
	}
	return nil
}

// Serves reports that address, host or host:port, is that of d.
func (d *Database) Serves(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	return d.Endpoint != "" && strings.EqualFold(host, d.Endpoint)
}
