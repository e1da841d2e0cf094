package record

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	maxKnown       = 64
	maxEnvironment = 1 << 20
)

// find is the process that holds the socket between two addresses, 0 where it cannot be found: it runs in
// another container or belongs to another user.
func (p *processes) find(local, remote string) int {
	inode := inodeOf(local, remote)
	if inode == "" {
		return 0
	}
	want := "socket:[" + inode + "]"
	for i, pid := range p.known {
		if holds(pid, want) {
			p.known = slices.Insert(slices.Delete(p.known, i, i+1), 0, pid)
			return pid
		}
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, dir := range slices.Backward(all) { // whoever connects is likely to be young
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || !holds(pid, want) {
			continue
		}
		p.known = slices.Insert(p.known, 0, pid)
		p.known = p.known[:min(len(p.known), maxKnown)]
		return pid
	}
	return 0
}

func holds(pid int, want string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		link, err := os.Readlink(filepath.Join(dir, fd.Name()))
		return err == nil && link == want
	})
}

// inodeOf is the kernel's number of the socket, "" where it has none.
func inodeOf(local, remote string) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := inodeIn(table, local, remote); inode != "" {
			return inode
		}
	}
	return ""
}

func inodeIn(table, local, remote string) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && kernelAddr(fields[1]) == local && kernelAddr(fields[2]) == remote {
			return fields[9]
		}
	}
	return ""
}

// kernelAddr turns "0100007F:1F90", the address in host order by 32-bit words, into 127.0.0.1:8080.
func kernelAddr(s string) string {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return ""
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String()
}

// argvOf is how the process was started.
func argvOf(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
}

// environmentOf is what the process's environment says about it. Nothing else of it is kept.
func environmentOf(pid int) (source, test string) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil || len(text) > maxEnvironment {
		return "", ""
	}
	for pair := range bytes.SplitSeq(text, []byte{0}) {
		name, value, _ := strings.Cut(string(pair), "=")
		switch name {
		case SourceVariable:
			source = value
		case TestVariable:
			test = value
		}
	}
	return source, test
}
