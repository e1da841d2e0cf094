package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// errAlive means that a process that lives has the file.
var errAlive = errors.New("its process lives")

// An aliveFile tells the other processes that share a state directory whether the holder of a lease lives: it
// names the lease's token and is locked for as long as the process runs, however that ends. So the lease of a
// process that was killed need not be waited for, however long it rests, where it can be known that it is gone.
type aliveFile struct{ file *os.File }

// alivePath is where that of the lease key is, for the database called id.
func alivePath(stateDir, id, key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(stateDir, "migrations", id, "lease-"+hex.EncodeToString(sum[:6]))
}

// A look at the file, as gone takes one, has it locked for a moment. So it is asked for again every aliveAgain, and
// given up after aliveAfter.
const (
	aliveAgain = 2 * time.Millisecond
	aliveAfter = 50 * time.Millisecond
)

// sayAlive locks the file at path, in a directory that exists, and writes token to it. It returns errAlive when
// another process has it for longer than a look takes, and the cause of ctx when that ends first.
func sayAlive(ctx context.Context, path, token string) (*aliveFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lockPatiently(ctx, f); err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(token), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &aliveFile{f}, nil
}

// lockPatiently locks f for its writer, and waits for those who only look.
func lockPatiently(ctx context.Context, f *os.File) error {
	again := time.NewTicker(aliveAgain)
	defer again.Stop()
	enough := time.NewTimer(aliveAfter)
	defer enough.Stop()
	for {
		err := lockAlive(f, true)
		if !errors.Is(err, errAlive) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-enough.C:
			return err
		case <-again.C:
		}
	}
}

// close says that the holder of the lease is not there any more. The token stays, for a lease that could not be
// given back because no Redis answered. A nil file is none.
func (a *aliveFile) close() error {
	if a == nil {
		return nil
	}
	return a.file.Close()
}

// gone is true when it is certain that the process that took the lease with token has ended: the file at path
// names this very token, and nobody has it locked. It changes nothing.
func gone(path, token string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read from
	if lockAlive(f, false) != nil {
		return false
	}
	const longest = 4 << 10
	content, err := io.ReadAll(io.LimitReader(f, longest))
	return err == nil && token != "" && string(content) == token
}
