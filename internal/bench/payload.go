package main

import (
	"encoding/json"
	"sync"

	"github.com/brillconsulting/handoff/internal/benchtest"
)

// invoice is the payload of every task on every side.
type invoice = benchtest.Invoice

const kind = "invoice"

// newInvoice returns an invoice of 300 bytes of JSON.
var newInvoice = sync.OnceValue(func() (in invoice) {
	if err := json.Unmarshal([]byte(benchtest.Body), &in); err != nil {
		panic(err)
	}
	return in
})

func body(in invoice) []byte {
	b, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	return b
}
