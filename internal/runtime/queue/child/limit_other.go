//go:build !linux && !darwin && !freebsd

package child

import (
	"errors"
	"runtime"
)

func (l Limits) supported() error {
	if l != (Limits{}) {
		return errors.New("there are none on " + runtime.GOOS)
	}
	return nil
}

func self() (string, error) { return "", errors.ErrUnsupported }

func become(Limits, []string) error { return errors.ErrUnsupported }
