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

// pages reads a listing page by page, each by a call with a deadline of its
// own, and holds one page at a time. It stops early, without an error, when
// each returns false.
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
		// What the iterator holds is what one call brought: a page may be
		// shorter than asked, and filling it up could take any memory.
		if info.Remaining() == 0 {
			return items, info.Token, nil
		}
	}
}
