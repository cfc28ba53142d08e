package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Usage is what a directory takes of its disk.
type Usage struct {
	Dir       string `json:"dir"`
	DiskBytes uint64 `json:"disk_bytes"` // of the file system
	DiskFree  uint64 `json:"disk_free"`  // of that, for whoever is not root
	Inodes    uint64 `json:"inodes"`
	FreeNodes uint64 `json:"inodes_free"`
	Kinds     []Kind `json:"kinds"`
}

// Kind is the files of one kind: what is in the same directory under the top and ends alike.
type Kind struct {
	Kind  string `json:"kind"` // such as nats/*.blk, or blobs/*
	Files uint64 `json:"files"`
	Bytes uint64 `json:"bytes"` // their lengths
	Taken uint64 `json:"taken"` // on the disk: less than Bytes if there are holes in them
}

// others is the kind of what a directory has that is not ours.
const others = "others"

// Measure looks at all files of a directory. Those whose first part of the path is in known
// are told apart, and no other name is told. What vanishes meanwhile is not counted.
func Measure(ctx context.Context, dir string, known []string) (u Usage, err error) {
	u.Dir = dir
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return u, fmt.Errorf("looking at the disk of %s: %w", dir, err)
	}
	block := uint64(disk.Bsize)
	u.DiskBytes, u.DiskFree, u.Inodes, u.FreeNodes = disk.Blocks*block, disk.Bavail*block, disk.Files, disk.Ffree
	kinds := map[string]Kind{}
	var unseen error // the first thing that cannot be looked at; the rest is looked at all the same
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var st unix.Stat_t
		if err == nil && !d.IsDir() {
			err = unix.Lstat(path, &st)
		}
		switch {
		case err == nil && !d.IsDir():
			k := kinds[kindOf(dir, path, known)]
			k.Files, k.Bytes, k.Taken = k.Files+1, k.Bytes+uint64(st.Size), k.Taken+uint64(st.Blocks)*512 // the unit of stat
			kinds[kindOf(dir, path, known)] = k
		case err != nil && !errors.Is(err, fs.ErrNotExist) && unseen == nil:
			unseen = fmt.Errorf("looking at %s: %w", path, err)
		}
		return nil
	})
	err = errors.Join(err, unseen)
	for name, k := range kinds {
		k.Kind = name
		u.Kinds = append(u.Kinds, k)
	}
	slices.SortFunc(u.Kinds, func(a, b Kind) int { return cmp.Or(cmp.Compare(b.Taken, a.Taken), strings.Compare(a.Kind, b.Kind)) })
	return u, err
}

// kindOf is the kind of a file by its path, which is under dir.
func kindOf(dir, path string, known []string) string {
	top, _, deeper := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, dir), "/"), "/")
	switch {
	case !slices.Contains(known, top):
		return others
	case !deeper:
		return top
	}
	return top + "/*" + ending(path)
}

// ending is what a file's name ends with, if it is a word as programs use them.
func ending(path string) string {
	const most = 8
	ext := filepath.Ext(path)
	if len(ext) > most || strings.Trim(strings.TrimPrefix(ext, "."), "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return ext
}
