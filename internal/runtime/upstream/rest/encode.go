package rest

const hexDigits = "0123456789abcdef"

// appendBody appends the commands of r as JSON, an array of arrays of strings.
func appendBody(dst []byte, r *request) []byte {
	dst = append(dst, '[')
	for i, cmd := range r.body() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendCommand(dst, r, cmd)
	}
	return append(dst, ']')
}

func appendCommand(dst []byte, r *request, cmd command) []byte {
	dst = append(dst, '[')
	for i := range cmd.args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, r.arg(cmd, i))
	}
	return append(dst, ']')
}

// appendString appends s, which is UTF-8, as a JSON string. Only what must be escaped is.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}
