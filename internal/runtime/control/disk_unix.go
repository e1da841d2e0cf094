//go:build unix

package control

import (
	"errors"
	"os"
)

// syncDirectory makes a rename in dir survive a crash of the machine.
func syncDirectory(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
