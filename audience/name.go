package audience

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"crier/job"
)

// Extension ends the name of an envelope's file.
const Extension = ".crpk"

// MaxName is the longest name of a package in bytes. With what is added to it
// for a temporary file it stays below the 255 bytes of a file name.
const MaxName = 128

// ValidateName refuses a name that could not be a file's, or that would hide
// where the file is: 1 to 128 bytes of UTF-8, neither "." nor "..", without
// slashes, backslashes, control characters and line separators.
func ValidateName(name string) error {
	switch {
	case name == "":
		return job.Invalid("name", "the package has no name; give one with --name", nil)
	case len(name) > MaxName:
		return job.Invalid("name", fmt.Sprintf("package name %.40q… has %d bytes, at most %d are allowed", name, len(name), MaxName), nil)
	case !utf8.ValidString(name):
		return job.Invalid("name", fmt.Sprintf("package name %q is not UTF-8", name), nil)
	case name == "." || name == "..":
		return job.Invalid("name", fmt.Sprintf("package name %q names a directory", name), nil)
	case strings.ContainsFunc(name, forbidden):
		return job.Invalid("name", fmt.Sprintf("package name %q has a separator or a control character", name), nil)
	}
	return nil
}

func forbidden(r rune) bool {
	return r == '/' || r == '\\' || unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp)
}
