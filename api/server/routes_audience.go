package server

import (
	"context"
	"net/http"

	"crier/api"
)

// PageInput is the part of an input that asks for a page. It is exported because
// huma does not look into embedded structs that are not.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" doc:"Most items wanted; absent means 50."`
	Cursor string `query:"cursor" maxLength:"256" doc:"The next of the page before."`
}

func (p PageInput) page() api.Page { return api.Page{Limit: p.Limit, Cursor: p.Cursor} }

// AccountInput is the part of an input that names an account in the path.
type AccountInput struct {
	Account string `path:"account" doc:"Name or id of the account."`
}

func (s *Server) accountRoutes() {
	svc := s.cfg.Service
	handleBody(s, operation{"create-account", http.MethodPost, "/v1/accounts", "accounts", "Create an account", http.StatusCreated},
		func(ctx context.Context, in *struct {
			Body strictBody[api.CreateAccount]
		}) (api.Account, error) {
			return svc.CreateAccount(ctx, in.Body.Value)
		})
	handle(s, operation{"list-accounts", http.MethodGet, "/v1/accounts", "accounts", "List accounts in the order of their ids", http.StatusOK},
		func(ctx context.Context, in *struct{ PageInput }) (api.AccountList, error) {
			return svc.ListAccounts(ctx, in.page())
		})
	handle(s, operation{"get-account", http.MethodGet, "/v1/accounts/{account}", "accounts", "Show an account", http.StatusOK},
		func(ctx context.Context, in *AccountInput) (api.Account, error) {
			return svc.GetAccount(ctx, in.Account)
		})
}

type idsInput struct {
	AccountInput
	Body strictBody[api.IDs]
}

func (s *Server) followerRoutes() {
	svc := s.cfg.Service
	handleBody(s, operation{"add-followers", http.MethodPost, "/v1/accounts/{account}/followers/add", "followers", "Add followers", http.StatusOK},
		func(ctx context.Context, in *idsInput) (api.FollowersChange, error) {
			return svc.AddFollowers(ctx, in.Account, in.Body.Value.IDs)
		})
	handleBody(s, operation{"remove-followers", http.MethodPost, "/v1/accounts/{account}/followers/remove", "followers", "Remove followers", http.StatusOK},
		func(ctx context.Context, in *idsInput) (api.FollowersChange, error) {
			return svc.RemoveFollowers(ctx, in.Account, in.Body.Value.IDs)
		})

	type change struct {
		Body strictBody[api.SuppressionChange]
	}
	handleBody(s, operation{"add-suppressed", http.MethodPost, "/v1/suppression/add", "suppression", "Put recipients on a suppression list", http.StatusOK},
		func(ctx context.Context, in *change) (api.SuppressionList, error) {
			return svc.AddSuppressed(ctx, in.Body.Value)
		})
	handleBody(s, operation{"remove-suppressed", http.MethodPost, "/v1/suppression/remove", "suppression", "Take recipients off a suppression list", http.StatusOK},
		func(ctx context.Context, in *change) (api.SuppressionList, error) {
			return svc.RemoveSuppressed(ctx, in.Body.Value)
		})
	handle(s, operation{"get-suppression", http.MethodGet, "/v1/suppression", "suppression", "Show a suppression list", http.StatusOK},
		func(ctx context.Context, in *struct {
			Account string `query:"account" doc:"Name or id of the account; absent means the global list."`
		}) (api.SuppressionList, error) {
			return svc.GetSuppression(ctx, in.Account)
		})
	handle(s, operation{"list-suppression", http.MethodGet, "/v1/suppression/lists", "suppression", "List the suppression lists", http.StatusOK},
		func(ctx context.Context, in *struct{ PageInput }) (api.SuppressionLists, error) {
			return svc.ListSuppression(ctx, in.page())
		})
}

func (s *Server) packageRoutes() {
	svc := s.cfg.Service
	handle(s, operation{"list-packages", http.MethodGet, "/v1/packages", "packages", "List recipient packages, the newest first", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Account string `query:"account" doc:"Name or id of the account; absent means all."`
		}) (api.PackageList, error) {
			return svc.ListPackages(ctx, in.Account, in.page())
		})
	handle(s, operation{"get-package", http.MethodGet, "/v1/packages/{package}", "packages", "Show a recipient package", http.StatusOK},
		func(ctx context.Context, in *struct {
			Package string `path:"package" doc:"Id of the package, 64 hexadecimal characters."`
		}) (api.Package, error) {
			id, err := api.ParsePackageID(in.Package)
			if err != nil {
				return api.Package{}, err
			}
			return svc.GetPackage(ctx, id)
		})
}
