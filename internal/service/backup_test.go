package service_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"crier/internal/service"
	"crier/job"
)

// Only a process that has all its data itself is copied; one that has not says so.
func TestBackup(t *testing.T) {
	var b bytes.Buffer
	if err := service.New(service.Config{}).Backup(t.Context(), &b); job.CodeOf(err) != job.CodeConflict || b.Len() != 0 {
		t.Errorf("a backup of what is elsewhere: %v, %d bytes", err, b.Len())
	}
	s := service.New(service.Config{Backup: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "all")
		return err
	}})
	if err := s.Backup(t.Context(), &b); err != nil || b.String() != "all" {
		t.Errorf("a backup: %v, %q", err, b.String())
	}
}
