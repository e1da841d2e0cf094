package tend

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

func TestAFilterPicksTheJobsThatMeetAllOfItsTerms(t *testing.T) {
	now := time.UnixMilli(1795000000000)
	j := Job{
		ID: "7", State: mover.Failed, Name: "send", Reason: "connect timeout after 5s", Attempts: 3, Priority: 2,
		AddedMS: now.Add(-2 * time.Hour).UnixMilli(), FinishedMS: now.Add(-30 * time.Minute).UnixMilli(),
		Data: json.RawMessage(`{"userId":42,"big":9007199254740993,"to":"a,b","deep":{"list":[{"x":true},null]},"ratio":1.5,"text":"7"}`),
	}
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{"", true},
		{"name=send", true},
		{"name=sen", false},
		{"name!=send", false},
		{"name~^se", true},
		{"name!~^se", false},
		{"id=7,name=send", true},
		{"id=8,name=send", false},
		{"reason~timeout", true},
		{`reason="connect timeout after 5s"`, true},
		{"age>1h", true},
		{"age>=2h", true},
		{"age<2h", false},
		{"age>1d", false},
		{"finished<1h,finished>10m", true},
		{"due<1h", false},
		{"attempts>=3", true},
		{"attempts=2", false},
		{"priority!=2", false},
		{"data.userId=42", true},
		{"data.userId=42.0", true},
		{"data.userId>41.5", true},
		{"data.userId!=42", false},
		{"data.big=9007199254740993", true},
		{"data.big=9007199254740992", false},
		{`data.to="a,b"`, true},
		{"data.deep.list.0.x=true", true},
		{"data.deep.list.1=null", true},
		{"data.deep.list.2=null", false},
		{"data.deep=1", false},
		{"data.missing=1", false},
		{"data.missing!=1", true},
		{"data.missing!~x", true},
		{"data.missing>0", false},
		{"data.text=7", true},
		{"data.text>6", false},
		{"data.ratio<2", true},
		{"band=high", false},
		{"band!=high", true},
	} {
		f, err := ParseFilter(c.filter)
		if err != nil {
			t.Errorf("ParseFilter(%q): %v", c.filter, err)
			continue
		}
		if got := f.Match(&j, now); got != c.want {
			t.Errorf("filter %q matches = %v, want %v", c.filter, got, c.want)
		}
	}
}

func TestAFilterThatIsWrongIsRefusedWithWhatWouldBeRight(t *testing.T) {
	for filter, want := range map[string]string{
		"nam=send":                           `no field "nam"; fields are id, name, reason`,
		"name":                               "no operator",
		"name=":                              "no value",
		"name==send":                         "write the operator once",
		"name>send":                          "name cannot be compared with >; want one of = != ~ !~",
		"age=1h":                             "age cannot be compared with =",
		"age>1x":                             "want a duration of 0 or more such as 90s",
		"age>h":                              "want a duration",
		"age>-1h":                            "want a duration",
		"attempts>many":                      `got "many", want a number`,
		"attempts>NaN":                       "want a number",
		"attempts>Inf":                       "want a number",
		"data=1":                             "say which part of data",
		"data.=1":                            "a part of the path is empty",
		"data.a..b=1":                        "a part of the path is empty",
		"name~(":                             "no regular expression",
		"name!send":                          "! alone is no operator",
		"name=send,":                         "filter term 2",
		`name="send`:                         "a quote is opened and not closed",
		`name="a"b`:                          "text after the closing quote",
		`name=a"b"`:                          "a quote stands inside",
		"data.x>abc":                         "want a number",
		"state=failed":                       `no field "state"`,
		strings.Repeat("x", 5000):            "want at most 4096",
		strings.Repeat("id=1,", 40) + "id=1": "want at most 32",
	} {
		_, err := ParseFilter(filter)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFilter(%.60q) = %v, want it to say %q", filter, err, want)
		}
	}
	_, err := ParseFilter("nam=1,age>x,attempts>y")
	for _, want := range []string{"term 1", "term 2", "term 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("every problem is not reported at once: %v", err)
		}
	}
}

func TestDurationsHaveDaysAndWeeks(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1w2d": 9 * 24 * time.Hour,
		"1.5d": 36 * time.Hour, "250ms": 250 * time.Millisecond,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1", "1y", "9999999999w", "1h ", "1..5h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %s, want it refused", text, got)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{
		"name=send,age>1h,reason~timeout,data.userId=42,attempts>=3", `name="a,\"b\\",id!=7`, "due<2d", "!", `"`, "a=\xff", "data.0.1~^$",
	} {
		f.Add(seed, `{"userId":42,"a":[1,{"b":null}]}`)
	}
	f.Fuzz(func(t *testing.T, text, data string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		j := Job{ID: "1", Name: "n", Data: json.RawMessage(data), AddedMS: 1}
		first := filter.Match(&j, time.UnixMilli(1795000000000))
		again, err := ParseFilter(filter.String())
		if err != nil {
			t.Fatalf("the filter's own text %q is refused: %v", filter.String(), err)
		}
		if again.Match(&j, time.UnixMilli(1795000000000)) != first {
			t.Errorf("filter %q matches differently when read again", text)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	m := message{kind: "send", payload: []byte(`{"a":1}`), id: "x", queue: "mail", retry: 25, headers: map[string]string{"k": "v", "": ""}}
	f.Add(m.encode())
	f.Add([]byte{0x7a, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decodeMessage(raw)
		if err != nil {
			return
		}
		again, err := decodeMessage(m.encode())
		if err != nil {
			t.Fatalf("what was encoded cannot be read: %v", err)
		}
		if again.kind != m.kind || string(again.payload) != string(m.payload) || again.retried != m.retried || len(again.headers) != len(m.headers) {
			t.Errorf("a message reads as %+v, and after writing it as %+v", m, again)
		}
	})
}

func FuzzCursor(f *testing.F) {
	all := []container{{state: mover.Failed}, {state: mover.Waiting, band: "high"}, {state: Aggregating, group: "a@b"}}
	f.Add("failed@20")
	f.Add("aggregating/group/a@b@3")
	f.Fuzz(func(t *testing.T, text string) {
		at, rank, err := readCursor(text, all)
		if err != nil || text == "" {
			return
		}
		if again, rank2, err := readCursor(writeCursor(all[at], rank), all); again != at || rank2 != rank || err != nil {
			t.Errorf("cursor %q means %d at %d, and written again %d at %d, %v", text, at, rank, again, rank2, err)
		}
	})
}
