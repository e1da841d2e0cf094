package main

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// The size of a chart in its own units, and how many points its line has at most.
const (
	chartWidth, chartHeight = 720.0, 160.0
	chartPoints             = 360
)

// A chart is one line over time.
type chart struct {
	Title string
	Unit  string
	Most  string // the highest value
	From  string
	To    string

	// Points is the line in the chart's own units, empty when nothing was measured; Begin is where the
	// migration began, negative when that is not in the picture.
	Points []string
	Begin  float64
}

// reportPage is the report as one HTML page that loads nothing.
func reportPage(data reportData, samples []history.Sample) ([]byte, error) {
	page := struct {
		reportData
		Rows   [][]string
		Charts []chart
		Width  float64
		Height float64
	}{reportData: data, Width: chartWidth, Height: chartHeight}
	for _, c := range data.Criteria {
		page.Rows = append(page.Rows, []string{
			c.Name, evidenceValue(c.Before), evidenceValue(c.After), c.Goal, string(c.Verdict), evidenceText(c), c.Remark,
		})
	}
	page.Charts = []chart{
		drawChart("Connections", "connections", samples, data.Since, data.Until, func(s history.Sample) (float64, bool) {
			return float64(s.Connections), s.Connections >= 0
		}),
		drawChart("Commands", "commands a minute", samples, data.Since, data.Until, func(s history.Sample) (float64, bool) {
			if s.Span <= 0 || s.Commands < 0 {
				return 0, false
			}
			return float64(s.Commands) / s.Span.Minutes(), true
		}),
	}
	var out bytes.Buffer
	t, err := template.New("report").Parse(reportTemplate)
	if err != nil {
		return nil, err
	}
	if err := t.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("make the page: %w", err)
	}
	return out.Bytes(), nil
}

// drawChart draws the highest value of each of many equal spans of time.
func drawChart(
	title, unit string, samples []history.Sample, began, until time.Time, value func(history.Sample) (float64, bool),
) chart {
	from := began.Add(-24 * time.Hour)
	if len(samples) > 0 && samples[0].Time.After(from) {
		from = samples[0].Time
	}
	c := chart{Title: title, Unit: unit, From: from.UTC().Format("2006-01-02 15:04"), To: until.UTC().Format("2006-01-02 15:04"), Begin: -1}
	whole := until.Sub(from).Seconds()
	if whole <= 0 {
		return c
	}
	var high [chartPoints]float64
	var known [chartPoints]bool
	most := 0.0
	for _, s := range samples {
		v, ok := value(s)
		at := int(s.Time.Sub(from).Seconds() / whole * chartPoints)
		if !ok || at < 0 || at >= chartPoints {
			continue
		}
		high[at], known[at] = max(high[at], v), true
		most = max(most, v)
	}
	c.Most = strings.TrimSuffix(fmt.Sprintf("%.1f", most), ".0")
	for i, v := range high {
		if !known[i] {
			continue
		}
		y := chartHeight
		if most > 0 {
			y = chartHeight * (1 - 0.95*v/most)
		}
		c.Points = append(c.Points, fmt.Sprintf("%.1f,%.1f", (float64(i)+0.5)*chartWidth/chartPoints, y))
	}
	if x := began.Sub(from).Seconds() / whole * chartWidth; x >= 0 && x <= chartWidth {
		c.Begin = x
	}
	return c
}

// reportTemplate is the page. Its numbers come from the report and everything in it is escaped.
const reportTemplate = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>report of {{.Target}}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #d0d7de;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.pass{color:#0a6b2d}.fail{color:#b3261e;font-weight:600}.inconclusive{color:#7a5200}
figure{margin:1.5rem 0}svg{width:100%;height:auto;background:#f6f8fa}figcaption{font-size:.9rem}
</style></head><body>
<h1>Report of {{.Target}}</h1>
<p>State: <strong>{{.Condition}}</strong>. Began {{.Since.Format "2006-01-02 15:04 MST"}}, reported {{.Until.Format "2006-01-02 15:04 MST"}}.</p>
<table><thead><tr><th>Criterion</th><th>Before</th><th>After</th><th>Goal</th><th>Verdict</th><th>Evidence</th><th>Remark</th></tr></thead><tbody>
{{range .Rows}}<tr><td>{{index . 0}}</td><td class="n">{{index . 1}}</td><td class="n">{{index . 2}}</td><td>{{index . 3}}</td><td class="{{index . 4}}">{{index . 4}}</td><td>{{index . 5}}</td><td>{{index . 6}}</td></tr>
{{end}}</tbody></table>
{{range .Charts}}<figure><figcaption><strong>{{.Title}}</strong>{{if .Points}}: at most {{.Most}} {{.Unit}}; {{.From}} to {{.To}} UTC{{else}}: nothing was measured{{end}}</figcaption>
{{if .Points}}<svg viewBox="0 0 {{$.Width}} {{$.Height}}" role="img" aria-label="{{.Title}} over time">
<polyline fill="none" stroke="#0969da" stroke-width="1.5" points="{{range .Points}}{{.}} {{end}}"/>
{{if ge .Begin 0.0}}<line x1="{{.Begin}}" x2="{{.Begin}}" y1="0" y2="{{$.Height}}" stroke="#b3261e" stroke-dasharray="4 3"/>{{end}}
</svg>{{end}}</figure>
{{end}}</body></html>
`
