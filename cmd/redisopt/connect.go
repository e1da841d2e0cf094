package main

import (
	"errors"
	"net/url"
)

// refusePassword refuses a URL from the command line that carries a password: arguments are visible
// to every user of the machine and end in shell histories.
func refusePassword(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The text of err repeats the URL, which may hold a secret.
		return errors.New("--redis-url: not a URL; want redis://host:6379 or rediss://host:6379")
	}
	if _, has := u.User.Password(); has {
		return errors.New("--redis-url: a password on the command line is visible to every user of this machine " +
			"and ends in the shell's history; put the URL into REDIS_URL, or into a file named by REDIS_URL_FILE")
	}
	return nil
}
