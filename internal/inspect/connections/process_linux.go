package connections

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelProcesses joins /proc/net/tcp and tcp6, which know the inode of every socket of this network
// namespace, with /proc/<pid>/fd, which know who holds the inode. A process of another user is found
// only by root. It reads a descriptor table per process and touches no Redis.
func kernelProcesses(want []socket) (map[socket]owner, error) {
	wanted := make(map[socket]bool, len(want))
	for _, s := range want {
		wanted[canonical(s)] = true
	}
	inodes := make(map[string]socket)
	var errs []error
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if err := readTCPTable(table, wanted, inodes); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 2 {
		return nil, errors.Join(errs...)
	}
	holders := holdersOf(inodes)
	found := make(map[socket]owner, len(holders))
	for _, s := range want {
		if o, ok := holders[canonical(s)]; ok {
			found[s] = o
		}
	}
	return found, nil
}

func readTCPTable(path string, wanted map[socket]bool, inodes map[string]socket) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) < 10 {
			continue
		}
		local, err1 := kernelAddr(fields[1])
		remote, err2 := kernelAddr(fields[2])
		if err1 != nil || err2 != nil || fields[9] == "0" {
			continue
		}
		if s := (socket{local, remote}); wanted[s] {
			inodes[fields[9]] = s
		}
	}
	return scan.Err()
}

// kernelAddr reads "0100007F:1F90": the address in host order by 32-bit words, the port in hex.
func kernelAddr(s string) (string, error) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || (len(raw) != 4 && len(raw) != 16) {
		return "", fmt.Errorf("address %q", s)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return "", fmt.Errorf("address %q", s)
	}
	for i := 0; i < len(raw); i += 4 {
		raw[i], raw[i+1], raw[i+2], raw[i+3] = raw[i+3], raw[i+2], raw[i+1], raw[i]
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String(), nil
}

func canonical(s socket) socket {
	return socket{canonicalAddr(s.local), canonicalAddr(s.remote)}
}

func canonicalAddr(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return s
	}
	ip, err1 := netip.ParseAddr(host)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err1 != nil || err2 != nil {
		return s
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String()
}

func holdersOf(inodes map[string]socket) map[socket]owner {
	holders := make(map[socket]owner, len(inodes))
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return holders
	}
	for _, proc := range procs {
		if len(holders) == len(inodes) {
			break
		}
		pid, err := strconv.Atoi(proc.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", proc.Name())
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // another user's, or gone
		}
		for _, fd := range fds {
			link, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(link, "socket:[")
			if !ok {
				continue
			}
			if s, ok := inodes[strings.TrimSuffix(inode, "]")]; ok {
				comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
				holders[s] = owner{pid: pid, command: strings.TrimSpace(string(comm))}
			}
		}
	}
	return holders
}
