package app

import (
	"context"
	"net/http"
)

type gatewayPart struct{}

func (g *gatewayPart) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (g *gatewayPart) connections() int              { return 0 }
func (g *gatewayPart) register(func(name, help string, fn func() float64)) {
}
func (g *gatewayPart) ServeHTTP(w http.ResponseWriter, r *http.Request) {}
func (a *app) openGateway(context.Context) error                        { return nil }
