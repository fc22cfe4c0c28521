package admin

import (
	"context"
	"errors"

	"google.golang.org/api/iterator"

	"github.com/brillconsulting/handoff/internal/rpc"
)

// lister is an iterator of Google's client.
type lister[T any] interface {
	Next() (T, error)
	PageInfo() *iterator.PageInfo
}

// pages reads a listing page by page and holds one page at a time. Each page is one
// call with its own deadline. If each returns false, pages stops without an error.
func pages[T any](ctx context.Context, size int, list func(context.Context) lister[T], each func(T) bool) error {
	for token := ""; ; {
		items, next, err := page(ctx, size, token, list)
		if err != nil {
			return err
		}
		for _, item := range items {
			if !each(item) {
				return nil
			}
		}
		if next == "" {
			return nil
		}
		token = next
	}
}

func page[T any](ctx context.Context, size int, token string, list func(context.Context) lister[T]) (items []T, next string, err error) {
	ctx, cancel := rpc.WithTimeout(ctx)
	defer cancel()
	it := list(ctx)
	info := it.PageInfo()
	info.MaxSize, info.Token = size, token
	for {
		item, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return items, "", nil
		}
		if err != nil {
			return nil, "", err
		}
		items = append(items, item)
		// Stop at the end of what one call returned. A page may be shorter than
		// size, and further calls to fill it would need unbounded memory.
		if info.Remaining() == 0 {
			return items, info.Token, nil
		}
	}
}
