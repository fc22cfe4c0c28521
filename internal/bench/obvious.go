package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/brillconsulting/handoff/internal/oidc/oidctest"
	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

// newObviousWay is what a team would write in an afternoon: idtoken for each
// delivery, a comparison of the email, echo's Bind, SET NX before the work and SET
// after it. It has no renewal, no owner of a claim, no attempts and no dead
// letters.
func newObviousWay(ctx context.Context, c *counter, s setup) (http.Handler, func(context.Context) error, error) {
	keys, err := url.Parse(s.Keys)
	if err != nil {
		return nil, nil, err
	}
	validator, err := idtoken.NewValidator(ctx, option.WithHTTPClient(&http.Client{Transport: redirect{keys}}))
	if err != nil {
		return nil, nil, err
	}
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis})
	e := echo.New()
	e.POST("/tasks/:kind", func(ec echo.Context) error {
		ctx := ec.Request().Context()
		token := strings.TrimPrefix(ec.Request().Header.Get("Authorization"), "Bearer ")
		claims, err := validator.Validate(ctx, token, oidctest.Audience)
		if err != nil || claims.Claims["email"] != oidctest.Email || claims.Claims["email_verified"] != true {
			return ec.NoContent(http.StatusUnauthorized)
		}
		var in invoice
		if err := ec.Bind(&in); err != nil {
			return err
		}
		key := "task:" + ec.Request().Header.Get("X-CloudTasks-QueueName") + ":" + ec.Request().Header.Get("X-CloudTasks-TaskName")
		claimed, err := rdb.SetNX(ctx, key, "running", 10*time.Minute).Result()
		if err != nil {
			return err
		}
		if !claimed {
			return ec.NoContent(http.StatusConflict)
		}
		c.handle(&in)
		if err := rdb.Set(ctx, key, "done", 25*time.Hour).Err(); err != nil {
			return err
		}
		return ec.NoContent(http.StatusOK)
	})
	return e, func(context.Context) error { return rdb.Close() }, nil
}

// redirect sends requests for Google's keys to the server of this benchmark,
// because idtoken has no option for the address.
type redirect struct{ keys *url.URL }

func (r redirect) RoundTrip(req *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(req.URL.String(), "https://www.googleapis.com/oauth2/v3/certs") {
		return nil, errors.New("the request is not for Google's keys")
	}
	req = req.Clone(req.Context())
	req.URL, req.Host = r.keys, ""
	return http.DefaultTransport.RoundTrip(req)
}
