package gateway

import (
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// TestDefect: a defect of the gateway costs one request, not the process, and keeps no admission.
func TestDefect(t *testing.T) {
	t.Parallel()
	g, err := New(Options{Mux: &mux.Mux{}, Tokens: []Token{{Secret: "s", MaxConcurrent: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the Mux was not made by New, so using it panics
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/get/k")
		ctx.Request.Header.Set("Authorization", "Bearer s")
		g.FastHandler(t.Context())(&ctx)
		if got, want := string(ctx.Response.Body()), `{"error":"ERR the gateway met a defect of its own"}`; ctx.Response.StatusCode() != 500 || got != want {
			t.Errorf("%d %s, want 500 %s", ctx.Response.StatusCode(), got, want)
		}
	}
	if s := g.Stats(); s.Panics != 3 || s.Tokens[0].Active != 0 {
		t.Errorf("Stats = %+v, want 3 panics and nobody active", s)
	}
}
