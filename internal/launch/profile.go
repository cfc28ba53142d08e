package launch

import (
	"errors"
	"os"
	"runtime/pprof"

	"crier/job"
)

// profiled runs a server and leaves in a file, if one is named, where its processor time went.
func profiled(path string, run func() error) error {
	if path == "" {
		return run()
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return job.Invalid("cpu_profile", "cpu_profile: give a file that this process may write", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	err = run()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
