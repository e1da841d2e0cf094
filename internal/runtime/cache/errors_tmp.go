package cache
func plainPart(s string) bool { return s != "" }
