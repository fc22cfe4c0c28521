package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/brillconsulting/handoff"
)

// takeOrder charges an order and asks the customer how it was, ten minutes later. A
// second click is the same order: both tasks have its number as their key.
func (s *shop) takeOrder(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Charge
		Mail string `json:"mail"`
	}
	if !read(w, r, &order) {
		return
	}
	receipt, err := s.client.Enqueue(r.Context(), order.Charge)
	if err == nil {
		_, err = s.client.Enqueue(r.Context(), Mail{To: order.Mail, Text: "How was it?"}, handoff.In(10*time.Minute), handoff.Key(order.Order))
	}
	acceptf(w, err, `{"task": %q, "duplicate": %t}`, receipt.Name, receipt.Duplicate)
}

// takeThumbnails enqueues many tasks, a hundred in a call.
func (s *shop) takeThumbnails(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil || n < 1 {
		http.Error(w, "n must be a number of images", http.StatusBadRequest)
		return
	}
	enqueued := 0
	for _, failed := range handoff.EnqueueBatch(r.Context(), s.client, images(n)) {
		if err = failed; err != nil {
			break
		}
		enqueued++
	}
	acceptf(w, err, `{"enqueued": %d}`, enqueued)
}

func images(n int) iter.Seq[Thumbnail] {
	return func(yield func(Thumbnail) bool) {
		for i := range n {
			if !yield(Thumbnail{Image: fmt.Sprintf("photo-%d.jpg", i+1)}) {
				return
			}
		}
	}
}

// take enqueues the payload that a request has as its body.
func take[T handoff.Payload](client *handoff.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var payload T
		if read(w, r, &payload) {
			receipt, err := client.Enqueue(r.Context(), payload)
			acceptf(w, err, `{"task": %q}`, receipt.Name)
		}
	}
}

// read reads the JSON of a request, and reports whether it could.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into)
	if err != nil {
		http.Error(w, "the body must be JSON: "+err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

// acceptf responds 202 once the work is in Cloud Tasks. Otherwise the customer tries
// again.
func acceptf(w http.ResponseWriter, err error, format string, args ...any) {
	if err != nil {
		slog.Error("shop: enqueue", "error", err)
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, format+"\n", args...)
}
