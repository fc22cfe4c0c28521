package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// newBareEcho is the baseline: echo alone. It decodes as a Router does: it reads
// the body into a reused buffer and calls json.Unmarshal.
func newBareEcho(c *counter) http.Handler {
	e := echo.New()
	e.POST("/tasks/:kind", func(ec echo.Context) error {
		b := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(b)
		b.Reset()
		if _, err := b.ReadFrom(ec.Request().Body); err != nil {
			return err
		}
		var in invoice
		if err := json.Unmarshal(b.Bytes(), &in); err != nil {
			return err
		}
		c.handle(&in)
		return ec.NoContent(http.StatusOK)
	})
	return e
}
