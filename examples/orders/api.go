package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/brillconsulting/handoff"
	"github.com/labstack/echo/v4"
)

// api serves customers and operators. A real shop would authenticate the
// operators.
func (s *shop) api(g *echo.Group) {
	g.PUT("/orders/:id", s.putOrder)
	g.GET("/orders/:id", s.getOrder)
	g.GET("/dead-letters", s.listDead)
	g.POST("/dead-letters/:id/redrive", s.redrive)
}

// putOrder stores the order and its task in one transaction. Cloud Tasks need not be
// reachable for that.
func (s *shop) putOrder(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 5*time.Second)
	defer cancel()
	o := order{State: "placed"}
	if err := c.Bind(&o); err != nil {
		return err
	}
	o.ID = c.Param("id")
	if err := s.books.place(ctx, s.outbox, o); err != nil {
		return err
	}
	s.send(ctx)
	return c.JSON(http.StatusAccepted, o)
}

func (s *shop) getOrder(c echo.Context) error {
	o, err := s.books.order(c.Request().Context(), c.Param("id"))
	if errors.Is(err, sql.ErrNoRows) {
		return echo.ErrNotFound
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, o)
}

// dead is a dead letter as operators see it.
type dead struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	Why  string `json:"why"`
}

func (s *shop) listDead(c echo.Context) error {
	page, err := s.letters.List(c.Request().Context(), handoff.DeadLetterQuery{})
	if err != nil {
		return err
	}
	list := make([]dead, len(page.Letters))
	for i, l := range page.Letters {
		list[i] = dead{l.ID, l.Kind, l.LastErr}
	}
	return c.JSON(http.StatusOK, list)
}

func (s *shop) redrive(c echo.Context) error {
	_, err := s.client.Redrive(c.Request().Context(), s.letters, c.Param("id"))
	if errors.Is(err, handoff.ErrNoDeadLetter) {
		return echo.ErrNotFound
	}
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusAccepted)
}
