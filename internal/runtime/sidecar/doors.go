package sidecar

import (
	"crypto/rand"
	"net/netip"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

// GatewayOptions is what the configuration says about the gateway. The caller adds mux, bell and
// instance id.
func GatewayOptions(conf *config.Config) gateway.Options {
	g := conf.Serve.Gateway
	tokens, open := gatewayTokens(conf)
	return gateway.Options{
		Tokens:          tokens,
		Open:            open,
		Allow:           g.Allow,
		MaxRequestBytes: g.MaxRequestBytes,
		MaxReplyBytes:   g.MaxReplyBytes,
		MaxBodyBytes:    g.MaxBodyBytes,
		MaxPipeline:     g.MaxPipeline,
		Timeout:         g.Timeout,
		NoMonitor:       g.NoMonitor,
		Listener: gateway.Limits{
			MaxConnections:  g.MaxClients,
			ShutdownTimeout: conf.Serve.ShutdownTimeout,
		},
	}
}

// gatewayTokens are who may use the gateway. It is open only where no token is configured at all: one
// that opens another door alone must not leave this one open.
func gatewayTokens(conf *config.Config) (tokens []gateway.Token, open bool) {
	s := conf.Serve
	if unguarded(s) {
		return nil, true
	}
	if s.Token != "" {
		tokens = append(tokens, gateway.Token{Name: config.DefaultTokenName, Secret: s.Token.Reveal()})
	}
	if s.ReadonlyToken != "" {
		tokens = append(tokens, gateway.Token{Name: config.ReadonlyTokenName, Secret: s.ReadonlyToken.Reveal(), ReadOnly: true})
	}
	for _, t := range s.Tokens {
		if t.Gateway == config.ReadAccess || t.Gateway == config.WriteAccess {
			tokens = append(tokens, gateway.Token{
				Name: t.Name, Secret: t.Token.Reveal(), ReadOnly: t.Gateway == config.ReadAccess,
				Allow: t.Allow, MaxPerSecond: t.MaxPerSecond, MaxConcurrent: t.MaxConcurrent,
			})
		}
	}
	if len(tokens) == 0 {
		tokens = []gateway.Token{{Name: nobody, Secret: rand.Text()}}
	}
	return tokens, false
}

// nobody is the name of the token that closes a door for which none is configured; no one knows it.
const nobody = "nobody"

func unguarded(s config.Serve) bool {
	return s.Token == "" && s.ReadonlyToken == "" && len(s.Tokens) == 0
}

// APIOptions is what the configuration says about the API. The caller adds the engines, what is shown
// in metrics, and the instance id.
func APIOptions(conf *config.Config) api.Options {
	s := conf.Serve
	var proxies []netip.Prefix
	for _, text := range conf.Limits.TrustedProxies {
		if network, err := config.ParseNetwork(text); err == nil { // Load has reported any other
			proxies = append(proxies, network)
		}
	}
	return api.Options{
		TrustedProxies:  proxies,
		Budgets:         conf.Budgets,
		Tokens:          apiTokens(conf),
		OpenMetrics:     s.OpenMetrics,
		MaxBodyBytes:    int64(s.MaxBodyBytes),
		ShutdownTimeout: s.ShutdownTimeout,
	}
}

// apiTokens are who may use the API; none where no token is configured at all.
func apiTokens(conf *config.Config) []api.Token {
	s := conf.Serve
	if unguarded(s) {
		return nil
	}
	var tokens []api.Token
	if s.Token != "" {
		tokens = append(tokens, api.Token{Name: config.DefaultTokenName, Secret: s.Token.Reveal(), Scopes: api.Scopes()})
	}
	if s.ReadonlyToken != "" {
		tokens = append(tokens, api.Token{Name: config.ReadonlyTokenName, Secret: s.ReadonlyToken.Reveal(), Scopes: api.ReadOnlyScopes()})
	}
	for _, t := range s.Tokens {
		if len(t.Scopes) == 0 {
			continue
		}
		token := api.Token{Name: t.Name, Secret: t.Token.Reveal(), MaxPerSecond: float64(t.MaxPerSecond)}
		for _, scope := range t.Scopes {
			token.Scopes = append(token.Scopes, api.Scope(scope))
		}
		tokens = append(tokens, token)
	}
	if len(tokens) == 0 {
		tokens = []api.Token{{Name: nobody, Secret: rand.Text(), Scopes: []api.Scope{api.ScopeMetrics}}}
	}
	return tokens
}
