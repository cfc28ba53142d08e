package api

import "bytes"

// Printable keeps what bad input had to say short and valid UTF-8.
func Printable(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit]
	}
	return string(bytes.ToValidUTF8([]byte(s), []byte("?")))
}
