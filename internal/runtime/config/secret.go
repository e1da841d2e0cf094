package config

import (
	"fmt"
	"io"
	"net/url"
	"strings"
)

// mask stands for a secret wherever one is printed. It says nothing about the secret's length.
const mask = "********"

// A Secret is a value that prints as a row of stars, through every fmt verb, encoder and logger.
// Reveal is the only way to the value itself.
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String is the mask, or nothing when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format prints the mask for every verb, so that %q and %x cannot show what %s hides.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is the mask: no encoder writes a secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A URL is an address that may hold a password, which prints as a row of stars.
type URL string

// Reveal is the URL itself, credentials included.
func (u URL) Reveal() string { return string(u) }

// String is the URL with its password and query masked. One that cannot be parsed is masked
// altogether, because nobody can tell where its password is.
func (u URL) String() string {
	if u == "" {
		return ""
	}
	p, err := url.Parse(string(u))
	if err != nil || p.Opaque != "" || p.Host == "" && p.Scheme != "unix" {
		return mask
	}
	var b strings.Builder
	b.WriteString(p.Scheme + "://")
	if p.User != nil {
		b.WriteString(url.User(p.User.Username()).String())
		if _, has := p.User.Password(); has {
			b.WriteString(":" + mask)
		}
		b.WriteByte('@')
	}
	b.WriteString(p.Host + p.EscapedPath())
	if p.RawQuery != "" || p.Fragment != "" {
		b.WriteString("?" + mask)
	}
	return b.String()
}

// Format prints the masked URL for every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// MarshalText is the masked URL.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
