package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

const nonceSize = 12

// A ring encrypts with its first key and decrypts with all.
type ring struct {
	first      string // id, empty without keys
	seals      map[string]cipher.AEAD
	nameSecret []byte
}

func newRing(o *Options) (*ring, error) {
	r := &ring{seals: map[string]cipher.AEAD{}, nameSecret: o.KeySecret}
	for i, k := range o.Keys {
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		r.seals[k.ID] = aead
		if i > 0 {
			continue
		}
		r.first = k.ID
		if len(r.nameSecret) == 0 {
			mac := hmac.New(sha256.New, k.Secret)
			mac.Write([]byte("names of sensitive cache entries"))
			r.nameSecret = mac.Sum(nil)
		}
	}
	if len(r.nameSecret) == 0 {
		// Nothing sensitive can be written without keys; names are unreadable all the same.
		r.nameSecret = make([]byte, 32)
		_, _ = rand.Read(r.nameSecret)
	}
	return r, nil
}

// seal appends the encrypted plain to head, which is authenticated with it, together with the key's
// name: an entry that is copied to another key does not open.
func (r *ring) seal(id string, head, nonce, plain []byte, store string) ([]byte, error) {
	aead, ok := r.seals[id]
	if !ok {
		return nil, fmt.Errorf("%w: no key to encrypt with is configured", ErrClass)
	}
	return aead.Seal(head, nonce, plain, bound(head, store)), nil
}

// open is the reverse of seal.
func (r *ring) open(id string, head, nonce, box []byte, store string) ([]byte, error) {
	aead, ok := r.seals[id]
	if !ok {
		return nil, errUnknownKey
	}
	plain, err := aead.Open(nil, nonce, box, bound(head, store))
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}

// bound is the additional data of an entry: where it is kept, and its header.
func bound(head []byte, store string) []byte {
	data := make([]byte, 0, len(store)+1+len(head))
	data = append(data, store...)
	data = append(data, 0)
	return append(data, head...)
}
