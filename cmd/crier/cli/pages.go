package cli

import (
	"github.com/spf13/cobra"

	"crier/api"
)

// LimitFlag adds --limit to a command that lists.
func LimitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 50, "most items; 0 is all")
}

// Listed reads a list as Pages does, and says on standard error that there is more.
func Listed[T any](c *CLI, limit int, next func(api.Page) ([]T, string, error)) ([]T, error) {
	all, more, err := Pages(limit, next)
	if more {
		c.Say("the first %d; --limit 0 shows all", limit)
	}
	return all, err
}

// Pages reads a list page by page until limit items are there, and tells whether there are
// more; 0 is all.
func Pages[T any](limit int, next func(api.Page) ([]T, string, error)) (all []T, more bool, err error) {
	if limit < 0 {
		return nil, false, Usage("--limit %d: want 0 or more", limit)
	}
	all = []T{}
	for cursor := ""; ; {
		page := api.Page{Limit: api.MaxPage, Cursor: cursor}
		if limit > 0 {
			page.Limit = min(limit-len(all), api.MaxPage)
		}
		items, after, err := next(page)
		if err != nil {
			return nil, false, err
		}
		all = append(all, items...)
		if after == "" || limit > 0 && len(all) >= limit {
			return all, after != "", nil
		}
		cursor = after
	}
}
