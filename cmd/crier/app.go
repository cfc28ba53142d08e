package main

import (
	"context"
	"errors"

	"crier/internal/config"
)

// serveApp runs the server.
func serveApp(context.Context, config.Server, string) error {
	return errors.New("this build has no server in it")
}
