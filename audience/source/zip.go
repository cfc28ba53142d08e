package source

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"crier/audience"
)

// Limits of a zip. A text that lists every id there is once takes 47 GB.
const (
	maxMembers   = 1 << 16
	maxMember    = 64 << 30 // bytes of one member, unpacked
	maxDirectory = 16 << 20 // bytes read to find the members
)

// damaged reports whether the error says that compressed data is wrong.
func damaged(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, zip.ErrChecksum) ||
		errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrAlgorithm)
}

// budget is the file below a zip reader. The reader keeps every entry of the
// directory that it finds, however many the archive says it has; so what it may
// read to find them is bounded.
type budget struct {
	io.ReaderAt
	left int64 // negative: no bound
}

var errDirectory = errors.New("the directory of the zip is longer than 16 MiB")

// ReadAt reads within the budget. A zip that lacks bytes in its middle has members before
// its start.
func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, zip.ErrFormat
	}
	if b.left >= 0 {
		if b.left -= int64(len(p)); b.left < 0 {
			b.left = 0
			return 0, errDirectory
		}
	}
	return b.ReaderAt.ReadAt(p, off)
}

// readZip gives the members of a zip that are files, having checked what their
// entries say of them. Nothing is unpacked yet.
func readZip(file string, r io.ReaderAt, size int64) ([]*zip.File, error) {
	limited := &budget{ReaderAt: r, left: maxDirectory}
	z, err := zip.NewReader(limited, size)
	limited.left = -1
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are checked below
		if damaged(err) || errors.Is(err, errDirectory) {
			return nil, refuse(file, 0, 0, err)
		}
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(z.File) > maxMembers {
		return nil, refuse(file, 0, 0, fmt.Errorf("%d members, at most %d are read", len(z.File), maxMembers))
	}
	var members []*zip.File
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if err := checkMember(f); err != nil {
			return nil, refuse(file, 0, 0, fmt.Errorf("member %q: %w", clip(f.Name), err))
		}
		members = append(members, f)
	}
	if len(members) == 0 {
		return nil, refuse(file, 0, 0, errors.New("the zip holds no file"))
	}
	return members, nil
}

// checkMember refuses a member by what its entry says.
func checkMember(f *zip.File) error {
	switch {
	case !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`):
		return errors.New("its name leads out of the archive")
	case !f.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case f.Flags&1 != 0:
		return errors.New("it is encrypted")
	case f.UncompressedSize64 > maxMember:
		return fmt.Errorf("it would have %d bytes, at most %d are read", f.UncompressedSize64, int64(maxMember))
	}
	for part := range strings.SplitSeq(f.Name, "/") {
		if err := audience.ValidateName(part); err != nil {
			return err
		}
	}
	return nil
}

// openMember opens a member of a zip and finds out what it is.
func openMember(in Input, f *zip.File, column string) (audience.Source, error) {
	r, err := f.Open()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // by the directory it lies behind the end of the file
	}
	if err != nil {
		return nil, reading(in.File, err)
	}
	head := make([]byte, 512)
	// An error comes again when the source reads.
	n, _ := io.ReadFull(r, head)
	in.R = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head[:n]), r), r}
	switch memberFormat(f.Name, head[:n], column) {
	case FormatRoaring:
		return NewRoaring(in), nil
	case FormatCSV:
		return NewCSV(in, column)
	case FormatZip:
		return nil, errors.Join(refuse(in.File, 0, 0, errors.New("a zip inside a zip is not read")), r.Close())
	}
	return NewText(in), nil
}

// memberFormat tells the format of a zip's member. One that ends like a bitmap or
// has a zero byte near its start is a bitmap (text has no zero byte, a bitmap's
// header has); one that ends in .csv, or any other if a column is given, is CSV;
// the rest are id texts.
func memberFormat(name string, head []byte, column string) Format {
	packed := bytes.HasPrefix(head, []byte("\x1f\x8b"))
	if packed {
		name = strings.TrimSuffix(name, ".gz")
	}
	ext := strings.ToLower(path.Ext(name))
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return FormatZip
	case ext == ".bin" || ext == ".roaring" || ext == ".portable" || !packed && bytes.IndexByte(head, 0) >= 0:
		return FormatRoaring
	case ext == ".csv" || column != "":
		return FormatCSV
	}
	return FormatIDs
}

// nameOf is the package's name for a file's base name: without the last
// extension.
func nameOf(base string) string { return strings.TrimSuffix(base, path.Ext(base)) }
