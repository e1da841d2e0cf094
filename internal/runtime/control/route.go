package control

// buckets is how many shares a route is divided into: hundredths of a percent.
const buckets = 10_000

// Route is whether key takes the new way of route under d. It depends on nothing but its arguments:
// every replica, every version and every run answers the same. Raising a route's percentage only adds
// keys to it, lowering it only removes some, and two routes divide the keys independently of each
// other. A thrown kill switch of the route's name takes all its keys away.
func Route(d Document, route, key string) bool {
	percent, ok := d.Ramps[route]
	if !ok || percent <= 0 || d.Killed(route) {
		return false
	}
	if percent >= 100 {
		return true
	}
	return bucket(route, key) < uint64(percent*(buckets/100)+0.5)
}

// bucket is the place of key among the buckets of route: FNV-1a over both, mixed so that keys that
// differ only at their end spread evenly. It is part of the contract between versions and never
// changes.
func bucket(route, key string) uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [2]string{route, key} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211 // no byte of UTF-8, so the two cannot run into each other
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return h % buckets
}
