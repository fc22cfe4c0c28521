package main

import (
	"encoding/json"
	"strings"

	"github.com/brillconsulting/handoff/internal/benchtest"

	"github.com/brillconsulting/handoff/internal/bench/producer"
)

// invoice is the payload of every task of every side. Its method is the one
// that handoff and river ask for, which agree on the name.
type invoice struct {
	benchtest.Invoice

	Sent int64 `json:"sent,omitempty"` // ns; set where the latency is measured
}

const (
	kind  = "invoice"
	queue = producer.Queue
)

// newInvoice comes to 300 bytes of JSON, until Sent is set.
func newInvoice() invoice { return invoice{Invoice: producer.Invoice()} }

// newInvoiceOf comes to about so many bytes of JSON.
func newInvoiceOf(size int) invoice {
	in := invoice{Invoice: benchtest.Invoice{ID: "inv"}}
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
