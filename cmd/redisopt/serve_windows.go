package main

// hangups never says anything: Windows has no SIGHUP, and the file is watched.
func hangups() (c <-chan struct{}, stop func()) { return nil, func() {} }
