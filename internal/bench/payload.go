package main

import (
	"encoding/json"
	"strings"
)

// invoice is the payload of every task of every side. Its methods are those
// that handoff and river ask for, which agree on the name.
type invoice struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Currency string   `json:"currency"`
	Total    float64  `json:"total"`
	Paid     bool     `json:"paid"`
	Lines    []string `json:"lines"`
	Note     string   `json:"note"`
	Sent     int64    `json:"sent,omitempty"` // ns; set where the latency is measured
}

const (
	kind  = "invoice"
	queue = "invoices"
)

func (invoice) Kind() string { return kind }

// newInvoice comes to 300 bytes of JSON, until Sent is set.
func newInvoice() invoice {
	return invoice{
		ID: "inv-2026-00000000042", Customer: "customer-0001", Currency: "EUR", Total: 1234.56, Paid: true,
		Lines: []string{"twelve crates of apples", "one crate of pears", "delivery on Tuesday before 9", "deposit for thirteen crates"},
		Note:  "Please ring twice, the bell is old and sometimes does not hear the 1st.",
	}
}

// newInvoiceOf comes to about so many bytes of JSON.
func newInvoiceOf(size int) invoice {
	in := invoice{ID: "inv", Note: ""}
	if rest := size - len(body(in)); rest > 0 {
		in.Note = strings.Repeat("x", rest)
	}
	return in
}

func body(in invoice) []byte {
	b, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	return b
}
