package keys

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestNamesFallUnderTheirPrefixAndFamily(t *testing.T) {
	names := []string{
		"bull:mail:wait", "bull:mail:id", "bull:mail:1", "bull:mail:2:lock", "bull:new:meta", "bull:new:77",
		"jobs:sms:wait", "jobs:sms:meta", "jobs:sms:12", "shop:wait",
		"asynq:{mail}:pending", "asynq:{mail}:t:0b9e", "asynq:queues",
		"rate_limit:user:1", "sms_rate_limit:+4912345", "@upstash/ratelimit:u1:29", "@upstash/ratelimit:events:490000",
		"cache:user:1", "cache:home", "sess:abcdef0123456789", "redisopt:limit:api:{u}",
		"user:123:profile", "user:jo@example.org", "cart:{user:9}:items", "report:daily:2026-11-01", "plain", "12345",
	}
	want := map[string]string{
		"bull:mail:wait": "bull:mail bull", "bull:mail:1": "bull:mail bull", "bull:mail:2:lock": "bull:mail bull",
		"bull:new:meta": "bull:new bullmq", "bull:new:77": "bull:new bullmq",
		"jobs:sms:wait": "jobs:sms bullmq", "jobs:sms:12": "jobs:sms bullmq", "shop:wait": "shop ",
		"asynq:{mail}:pending": "asynq:{mail} asynq", "asynq:queues": "asynq asynq",
		"rate_limit:user:1": "rate_limit limiter", "sms_rate_limit:+4912345": "sms_rate_limit limiter",
		"@upstash/ratelimit:u1:29": "@upstash/ratelimit limiter", "@upstash/ratelimit:events:490000": "@upstash/ratelimit:events limiter",
		"cache:user:1": "cache:user cache", "cache:home": "cache cache", "sess:abcdef0123456789": "sess session",
		"redisopt:limit:api:{u}": "redisopt:limit redisopt", "user:123:profile": "user ", "user:jo@example.org": "user ",
		"cart:{user:9}:items": "cart ", "report:daily:2026-11-01": "report:daily ", "plain": noPrefix + " ", "12345": noPrefix + " ",
	}
	g := newGrouper(names, 2)
	for name, w := range want {
		if p, f := g.of(name); p+" "+string(f) != w {
			t.Errorf("%q is of %q, want %q", name, p+" "+string(f), w)
		}
	}
}

func TestManyNamesBelowOneAreValuesAndNotPrefixes(t *testing.T) {
	var names []string
	for i := range 30 {
		names = append(names, "user:"+strings.Repeat(string(rune('a'+i%26)), 3+i/26)+":name")
	}
	if p, _ := newGrouper(names, 2).of(names[0]); p != "user" {
		t.Errorf("prefix %q, want user", p)
	}
}

func TestValuesAreReadAsTheClientsReadThem(t *testing.T) {
	for _, c := range []struct {
		value string
		cut   bool
		want  reading
	}{
		{`{"a":1}`, false, reading{class: ClassJSON}},
		{` [1,2] `, false, reading{class: ClassJSON}},
		{`{"a":[1,2,{"b":"lo`, true, reading{class: ClassJSON}},
		{`{"a":[1,2,{"b":"lo`, false, reading{class: ClassText, throws: true}},
		{`"hello"`, false, reading{class: ClassJSONString}},
		{`hello`, false, reading{class: ClassText, throws: true}},
		{``, false, reading{class: ClassText, throws: true}},
		{`007`, false, reading{class: ClassText, throws: true}},
		{`123`, false, reading{class: ClassNumber, changes: true}},
		{`-1.5`, false, reading{class: ClassNumber, changes: true}},
		{`1.0`, false, reading{class: ClassNumber}}, // the SDK keeps what JavaScript writes in another way
		{`12345678901234567890`, false, reading{class: ClassNumber}},
		{`true`, false, reading{class: ClassLiteral, changes: true}},
		{`null`, false, reading{class: ClassLiteral, changes: true}},
		{"\xffRC\x01", false, reading{class: ClassEnvelope, throws: true, damaged: true}},
		{"~rc1:AAAA", false, reading{class: ClassEnvelope, throws: true}},
		{"\x1f\x8b\x08\x00\x00", false, reading{class: ClassCompressed, throws: true, damaged: true}},
		{"\x80\x81\x82", false, reading{class: ClassBinary, throws: true, damaged: true}},
		{"gr\xc3", true, reading{class: ClassText, throws: true}},
	} {
		if got := read([]byte(c.value), c.cut); got != c.want {
			t.Errorf("read(%q, %v) = %+v, want %+v", c.value, c.cut, got, c.want)
		}
	}
}

func TestSharesSayHowSureTheyAre(t *testing.T) {
	s := shareOf(5, 50, false)
	if math.Abs(*s.Low-0.0435) > 0.001 || math.Abs(*s.High-0.2136) > 0.001 {
		t.Errorf("5 of 50: %v to %v, want 0.0435 to 0.2136", *s.Low, *s.High)
	}
	for _, c := range []struct {
		share Share
		want  string
	}{
		{s, "10% (4% to 21%)"},
		{shareOf(3, 9, false), "3 of 9 (insufficient samples)"},
		{shareOf(1, 4, true), "25%"},
		{shareOf(0, 0, true), "not observed"},
	} {
		if got := c.share.String(); got != c.want {
			t.Errorf("%+v is %q, want %q", c.share, got, c.want)
		}
	}
}

func TestAnEstimateStaysWithinTheBudget(t *testing.T) {
	for _, o := range []Options{{}, {Budget: 20}, {Budget: 5000, Idle: true}, {Budget: 1_000_000, Sample: 7}} {
		e, err := Plan(o)
		if err != nil {
			t.Fatal(err)
		}
		if e.Commands > o.withDefaults().Budget || e.Keys == 0 || o.Sample > 0 && e.Keys != o.Sample {
			t.Errorf("%+v: estimate %+v", o, e)
		}
	}
	_, err := Plan(Options{Budget: 3, Sample: -1, RequestLimit: 1, Prefix: "a", Match: "b"})
	for _, want := range []string{"budget", "sample", "request limit", "prefix and match"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestEveryPrefixIsLookedAtAndNoMoreThanAsked(t *testing.T) {
	a := &audit{}
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("user:%d", i))
	}
	for i := range 5 {
		names = append(names, fmt.Sprintf("cache:page:%d", i))
	}
	names = append(names, "cache:everything", "log")
	lot, picked := choose(a.groups(names), 40, true)
	by := map[string]int{}
	for _, k := range lot {
		by[k.Prefix]++
	}
	if by["cache:page"] != 5 || by["user"] < minSamples || len(lot)+len(picked) != 40 {
		t.Errorf("by lot %v, %d for their name, want all five of cache:page and 40 in all", by, len(picked))
	}
	lot, picked = choose(a.groups(names), 5000, true)
	if len(lot) != len(names) || len(picked) != 0 {
		t.Errorf("%d and %d of %d, want all by lot", len(lot), len(picked), len(names))
	}
}

// A collection that the lot takes leaves room for more of the others, among which it may be no more.
func TestCollectionsAreLookedAtInWhateverOrderNamesCome(t *testing.T) {
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("user:%d", i), fmt.Sprintf("bull:mail:%d", i))
	}
	kept := []string{"bull:mail:completed", "bull:mail:failed", "bull:mail:id"}
	names = append(names, kept...)
	lots := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		lots.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		lot, picked := choose((&audit{}).groups(names), 24, true)
		all := map[string]bool{}
		for _, k := range slices.Concat(lot, picked) {
			all[k.Name] = true
		}
		for _, name := range kept {
			if !all[name] {
				t.Fatalf("%s is not looked at", name)
			}
		}
		if len(all) > 24 || len(all) < 22 {
			t.Fatalf("%d keys are looked at, want 24 or little fewer", len(all))
		}
	}
}

func TestTheCollectionsOfAQueueAreLookedAtEvenUnseen(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("bull:mail:%d", i))
	}
	a := &audit{}
	_, picked := choose(a.groups(names), 24, false)
	if len(picked) != 5 || picked[0].Name != "bull:mail:completed" {
		t.Errorf("picked %d, want the five collections of bull:mail", len(picked))
	}
	if _, picked = choose(a.groups(names), 24, true); len(picked) != 0 {
		t.Errorf("picked %d names that are not among all there are", len(picked))
	}
}

func FuzzNamesAndValues(f *testing.F) {
	f.Add("bull:{a:b}:1", []byte(`{"a":`), true)
	f.Fuzz(func(t *testing.T, name string, value []byte, cut bool) {
		g := newGrouper([]string{name}, 2)
		if p, _ := g.of(name); p == "" && !strings.HasPrefix(name, ":") {
			t.Errorf("%q has no prefix at all", name)
		}
		read(value, cut)
		shown(name)
	})
}
