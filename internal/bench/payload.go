package main

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/brillconsulting/handoff/internal/benchtest"
)

// invoice is the payload of every task of every side. Its method is the one
// that handoff and river ask for, which agree on the name.
type invoice struct {
	benchtest.Invoice

	Sent int64 `json:"sent,omitempty"` // ns; set where the latency is measured
}

const (
	kind  = "invoice"
	queue = "invoices"
)

// newInvoice comes to 300 bytes of JSON, until Sent is set.
func newInvoice() invoice { return invoice{Invoice: smallInvoice()} }

// smallInvoice is read once: it is asked for where every microsecond is counted.
var smallInvoice = sync.OnceValue(func() (in benchtest.Invoice) {
	if err := json.Unmarshal([]byte(benchtest.Body), &in); err != nil {
		panic(err)
	}
	return in
})

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
