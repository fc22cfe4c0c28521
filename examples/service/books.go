package main

import (
	"errors"
	"slices"
	"sync"
)

var errDeclined = errors.New("the card was declined")

var tenants = []string{"acme", "globex", "initech"}

// books stand in for the shop's database, its card provider and its mail server.
type books struct {
	mu      sync.Mutex
	entries map[string][]string
	tokens  map[string]int64 // the highest fencing token of each order
}

// charge charges an order, unless a later run has.
func (b *books) charge(c Charge, token int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.Cents <= 0:
		return errDeclined
	case token < b.tokens[c.Order]:
		return errors.New("a later run has charged the order")
	}
	b.tokens[c.Order] = token
	b.entries["charges"] = append(b.entries["charges"], c.Order)
	return nil
}

func (b *books) add(book, entry string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[book] = append(b.entries[book], entry)
	return nil
}

// of returns the entries of a book.
func (b *books) of(book string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.entries[book])
}
