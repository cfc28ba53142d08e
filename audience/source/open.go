package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"crier/audience"
	"crier/audience/source/query"
	"crier/audience/source/redisset"
	"crier/job"
)

// Format is what files are read as.
type Format string

// The formats, as --from names them.
const (
	FormatIDs     Format = "ids"
	FormatCSV     Format = "csv"
	FormatRoaring Format = "roaring"
	FormatZip     Format = "zip" // its members are any of the others
	FormatSQL     Format = "sql"
	FormatRedis   Format = "redis"

	// Sets that a server keeps.
	FormatFollowers   Format = "followers"
	FormatSegment     Format = "segment"
	FormatSuppression Format = "suppression"
)

// FormatNames lists them in words.
func FormatNames() string {
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// Formats lists them, but the suppression lists, of which a package would be those who get
// nothing.
func Formats() []Format {
	return []Format{FormatIDs, FormatCSV, FormatRoaring, FormatZip, FormatSQL, FormatRedis, FormatFollowers, FormatSegment}
}

// Stdin as a file's name stands for standard input; its package is called so
// too unless it is given a name.
const (
	Stdin     = "-"
	stdinName = "stdin"
)

// Config says what to build packages from.
type Config struct {
	// From is the format of all files, or the kind of database.
	From Format
	// Files are paths, or URLs of http and https; Stdin is standard input, once at most.
	// For FormatSQL it is one query, for FormatRedis keys, for FormatSegment names of
	// segments, else accounts; "" is the global suppression list.
	Files []string
	// Fetch gets what a server keeps; other formats need none.
	Fetch Fetch
	// DSN is the database of a query or of keys: sqlite:PATH,
	// mysql:user:password@tcp(host:3306)/database, redis://user:password@host:6379/0.
	DSN string
	// Name is the package's name, for one package only. By default a package is
	// called like its file or zip member without directory and last extension.
	Name string
	// Column is the column of CSV files, of a zip's CSV members and of a query's result: a
	// number from 1 on or a name; the default is 1.
	Column string
	// Stdin is read for the file "-"; by default os.Stdin.
	Stdin io.Reader
	// Steps are package files to which the ids of each package are held, in this order.
	Steps []audience.Operand
	// Force lets Build replace other packages of the same names.
	Force bool
	// Unchanged is told of each package that is there already; may be nil.
	Unchanged func(path string)
}

// dsnForms is how the databases of formats are named.
var dsnForms = map[Format]string{
	FormatSQL:   "want sqlite:PATH or mysql:user:password@tcp(host:3306)/database",
	FormatRedis: "want redis://user:password@host:6379/0",
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch asks := c.From == FormatSQL || c.From == FormatRedis; {
	case asks && c.DSN == "":
		return job.Invalid("dsn", fmt.Sprintf("%s needs the DSN of its database, and none is given: %s", c.From, dsnForms[c.From]), nil)
	case !asks && c.DSN != "":
		return job.Invalid("dsn", fmt.Sprintf("a DSN goes with sql and redis, not with %s", c.From), nil)
	}
	switch c.From {
	case FormatSQL:
		if c.Name == "" || len(c.Files) != 1 {
			return job.Invalid("name", "a query makes one package; give one query, and the package's name", nil)
		}
		if _, err := query.New(query.Config{Name: c.Name, DSN: c.DSN, SQL: c.Files[0], Column: c.Column}); err != nil {
			return err
		}
	case FormatIDs, FormatRoaring, FormatRedis, FormatFollowers, FormatSegment, FormatSuppression:
		if c.Column != "" {
			return job.Invalid("column", fmt.Sprintf("a column goes with csv and zip, not with %s", c.From), nil)
		}
		if c.From == FormatRedis {
			if _, err := redisset.New(redisset.Config{Name: c.Name, URL: c.DSN, Key: "any"}); err != nil {
				return err
			}
		}
	case FormatCSV, FormatZip:
		if _, err := NewCSV(Input{}, c.Column); err != nil {
			return err
		}
	default:
		return job.Invalid("from", fmt.Sprintf("format %q: want one of %s", c.From, FormatNames()), nil)
	}
	if c.From.isKept() && c.Fetch == nil {
		return job.Invalid("from", fmt.Sprintf("%s are kept by a server, and there is none", c.From), nil)
	}
	if len(c.Files) == 0 {
		return job.Invalid("file", "no file is given; - is standard input", nil)
	}
	if c.Name != "" {
		if len(c.Files) > 1 {
			return job.Invalid("name", fmt.Sprintf("one name for %d files; leave --name out or build them one by one", len(c.Files)), nil)
		}
		return audience.ValidateName(c.Name)
	}
	return nil
}

// List is the packages to build. Close it when they are built.
type List struct {
	Sources []audience.Source
	config  Config
	from    map[string]string // package name → file, for collisions
	closers []io.Closer
}

// Open finds the packages to build and refuses two of one name. Contents are
// read, and errors in them found, by the sources; of zips the directory is read
// here.
func Open(ctx context.Context, cfg Config) (*List, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Stdin == nil {
		cfg.Stdin = os.Stdin
	}
	l := &List{config: cfg, from: map[string]string{}}
	for _, file := range cfg.Files {
		if err := l.addAny(ctx, file); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if cfg.Name != "" && len(l.Sources) > 1 {
		err := job.Invalid("name", fmt.Sprintf("one name for %d packages; leave --name out or build them one by one", len(l.Sources)), nil)
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close closes all sources and files.
func (l *List) Close() error {
	var errs []error
	for _, s := range l.Sources {
		errs = append(errs, s.Close())
	}
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	l.closers = nil
	return errors.Join(errs...)
}

// addAny adds the packages of a file, or of what a database has.
func (l *List) addAny(ctx context.Context, file string) error {
	cfg := l.config
	switch cfg.From {
	case FormatSQL:
		return l.add(Input{Name: cfg.Name, File: "the query"}, func(_ context.Context, in Input) (audience.Source, error) {
			return query.New(query.Config{Name: in.Name, DSN: cfg.DSN, SQL: file, Column: cfg.Column})
		})
	case FormatRedis:
		return l.add(Input{Name: file, File: "key " + file}, func(_ context.Context, in Input) (audience.Source, error) {
			return redisset.New(redisset.Config{Name: in.Name, URL: cfg.DSN, Key: file})
		})
	}
	if cfg.From.isKept() {
		return l.addKept(file)
	}
	return l.addFile(ctx, file)
}

// place is where bytes are: a file, standard input, a server.
type place struct {
	name  string // of the package, unless another is given
	shown string // how errors call it
	open  func(context.Context) (io.ReadCloser, error)
}

// place finds what a file's name stands for.
func (c Config) place(file string) (place, error) {
	switch {
	case file == Stdin:
		return place{stdinName, "standard input", func(context.Context) (io.ReadCloser, error) { return io.NopCloser(c.Stdin), nil }}, nil
	case isURL(file):
		return onServer(file)
	}
	return place{nameOf(filepath.Base(file)), file, func(context.Context) (io.ReadCloser, error) { return os.Open(file) }}, checkFile(file)
}

// addFile adds the package of a file, or those of a zip.
func (l *List) addFile(ctx context.Context, file string) error {
	at, err := l.config.place(file)
	if err != nil {
		return err
	}
	if l.config.From == FormatZip {
		return l.addZip(ctx, at)
	}
	in := Input{Name: at.name, File: at.shown}
	return l.add(in, func(ctx context.Context, in Input) (audience.Source, error) {
		var err error
		if in.R, err = at.open(ctx); err != nil {
			return nil, opening(at, err)
		}
		switch l.config.From {
		case FormatCSV:
			return NewCSV(in, l.config.Column)
		case FormatRoaring:
			return NewRoaring(in), nil
		}
		return NewText(in), nil
	})
}

// opening says what was opened; what a server answers says by itself what it is about.
func opening(at place, err error) error {
	if job.CodeOf(err) != "" {
		return err
	}
	return fmt.Errorf("opening %s: %w", at.shown, err)
}

// checkFile refuses early what cannot be read as a file.
func checkFile(file string) error {
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return job.NotFound(fmt.Sprintf("file %s does not exist", file))
	case err != nil:
		return fmt.Errorf("looking at %s: %w", file, err)
	case st.IsDir():
		return job.Invalid("file", fmt.Sprintf("%s is a directory; name its files", file), nil)
	}
	return nil
}

// add adds a package, under the configured name if there is one.
func (l *List) add(in Input, open func(context.Context, Input) (audience.Source, error)) error {
	if l.config.Name != "" {
		in.Name = l.config.Name
	}
	if err := audience.ValidateName(in.Name); err != nil {
		return job.Invalid("file", fmt.Sprintf("%s cannot give its package a name", in.File), err)
	}
	if other, taken := l.from[in.Name]; taken && l.config.Name == "" {
		return job.Conflict(fmt.Sprintf("%s and %s would both make package %q; nothing was built", other, in.File, in.Name))
	}
	l.from[in.Name] = in.File
	l.Sources = append(l.Sources, &lazy{name: in.Name, open: func(ctx context.Context) (audience.Source, error) { return open(ctx, in) }})
	return nil
}

// addZip adds the members of a zip.
func (l *List) addZip(ctx context.Context, at place) error {
	f, size, err := openSeekable(ctx, at)
	if err != nil {
		return opening(at, err)
	}
	l.closers = append(l.closers, f)
	members, err := readZip(at.shown, f, size)
	if err != nil {
		return err
	}
	for _, m := range members {
		in := Input{Name: nameOf(path.Base(m.Name)), File: at.shown + ":" + m.Name}
		if err := l.add(in, func(_ context.Context, in Input) (audience.Source, error) {
			return openMember(in, m, l.config.Column)
		}); err != nil {
			return err
		}
	}
	return nil
}
