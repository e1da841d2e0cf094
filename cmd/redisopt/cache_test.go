package main

import (
	"encoding/json"
	"testing"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// cacheDocuments are one document of each kind, and of each form that a kind has.
func cacheDocuments() map[string]report.Document {
	text := "<html>"
	pattern := cache.DeletePlan{
		Pattern: "user:*:profile", Match: "cache:user:*:profile", DatabaseKeys: 120_000, SampledKeys: 5_000, SampledMatches: 40,
		EstimatedKeys: 960, EstimatedCommands: 122, MaxCommands: 193, PlanCommands: 6,
		Examples: []string{"cache:user:1:profile", "cache:user:2:profile"},
	}
	return map[string]report.Document{
		"cache.get": cacheGetDocument(cacheGetData{
			Key: "user:42:profile", Hit: true, Codec: cache.JSON, Bytes: 14, Value: json.RawMessage(`{"name":"Ann"}`),
			AgeMS: 61_000, TTLMS: 3_539_000,
		}),
		"cache.get.text":   cacheGetDocument(cacheGetData{Key: "page:home", Hit: true, Stale: true, Codec: cache.Raw, Bytes: 6, Text: &text, AgeMS: 7_200_000}),
		"cache.get.hidden": cacheGetDocument(cacheGetData{Key: "session:1", Hit: true, Hidden: true, Codec: cache.Raw, Bytes: 80, TTLMS: 1000}),
		"cache.get.miss":   cacheGetDocument(cacheGetData{Key: "page:none"}),
		"cache.set": cacheSetDocument(cacheSetData{Key: "page:home", Stored: true, Commands: 1, cacheEntryPlan: cacheEntryPlan{
			ValueBytes: 9000, StoredBytes: 1200, Compressed: true, TTLSeconds: 86400, Clamped: true,
		}}),
		"cache.del": cacheDelDocument(cacheDelData{
			Keys: []string{"page:home"}, Tags: []string{"user:42"}, Deleted: 1, Commands: 2, Done: true,
		}),
		"cache.plan": cachePlanDocument(cachePlanData{
			Action: "delete user:*:profile", Keys: []string{}, Tags: []string{}, Pattern: &pattern, EstimatedCommands: 122, PlanCommands: 6,
		}),
		"cache.plan.set": cachePlanDocument(cachePlanData{
			Action: "write session:1", Keys: []string{"session:1"}, Tags: []string{"a", "b", "c", "d", "e", "f"},
			Entry: &cacheEntryPlan{ValueBytes: 10, StoredBytes: 80, Encrypted: true}, EstimatedCommands: 8,
		}),
		"cache.warm": cacheWarmDocument(cache.WarmReport{
			Name: "entries.yaml", Items: 10, Fresh: 4, Stored: 5, Failed: 1, Commands: 6, Errors: []string{`load key "a": no file`},
		}),
		"cache.stats": cacheStatsDocument(cache.Sample{
			DatabaseKeys: 120_000, SampledKeys: 48_000, Commands: 100, OtherKeys: 400, TagKeys: 900,
			Namespaces: []cache.NamespaceSample{
				{
					Name: "user", SampledKeys: 40_000, EstimatedKeys: 100_000, Entries: 25, MeanBytes: 812, EstimatedBytes: 81_200_000,
					Codecs: []cache.Codec{cache.JSON, cache.MsgPack}, Compressed: 5, Tagged: 25, Foreign: 1, NoExpiry: 2,
					MeanAgeMS: 1_260_000, MeanTTLMS: 3_600_000,
				},
				{Name: "session", SampledKeys: 10, EstimatedKeys: 25, Entries: 10, MeanBytes: 300, EstimatedBytes: 7500, Codecs: []cache.Codec{cache.Raw}, Encrypted: 10, MeanTTLMS: 86_400_000},
			},
		}),
	}
}

func TestCachedEntriesLookAsRecordedInEveryFormat(t *testing.T) {
	for name, doc := range cacheDocuments() {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				wantGolden(t, name, format, doc)
			})
		}
	}
}
