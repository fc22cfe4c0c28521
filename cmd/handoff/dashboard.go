package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/dashboard"
	"github.com/brillconsulting/handoff/dashboard/emulatorsource"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/rpc"
	"github.com/brillconsulting/handoff/redisstore"
)

type dashboardCmd struct {
	placeFlags
	redisFlags
	targetFlags

	Listen   string `default:"127.0.0.1:8080" help:"Where it is served: an address of this machine alone (${default})." placeholder:"ADDR"`
	ReadOnly bool   `help:"Show no button that changes something, and refuse changes."`
}

// Help is shown by handoff dashboard --help.
func (*dashboardCmd) Help() string {
	return `It has no login and answers this machine alone. From another one, use ssh -L 8080:127.0.0.1:8080, or mount package dashboard in a service of yours, ` +
		`behind its own login. Dead letters and the steps of work are shown with --redis, and letters redriven with --target as well. It shows what Cloud Tasks tells; ` +
		`handoff emulator --dashboard shows every attempt.`
}

// Run serves until ctx ends.
func (c *dashboardCmd) Run(ctx context.Context) error {
	if err := checkLoopback("--listen", c.Listen); err != nil {
		return err
	}
	redrives := c.targetFlags != targetFlags{}
	if redrives && c.Redis == "" {
		return usagef("--target redrives dead letters, and --redis, which has them, is missing")
	}
	return c.admin(ctx, func(a *admin.Admin) error {
		source, err := dashboard.NewAdminSource(dashboard.AdminSourceConfig{Admin: a, Unmetered: os.Getenv(rpc.EmulatorVariable) != ""})
		if err != nil {
			return err
		}
		return c.withRedis(ctx, dashboard.Config{Source: source, ReadOnly: c.ReadOnly, Loopback: true}, func(config dashboard.Config) error {
			if !redrives {
				return c.serve(ctx, config)
			}
			target, err := c.target()
			if err != nil {
				return err
			}
			return c.client(ctx, target, func(client *handoff.Client) error {
				config.Client = client
				return c.serve(ctx, config)
			})
		})
	})
}

func (c *dashboardCmd) serve(ctx context.Context, config dashboard.Config) error {
	board, err := openBoard("--listen", c.Listen, config)
	if err != nil {
		return err
	}
	defer board.close()
	fmt.Printf("handoff dashboard: ready on %s\n", board.url)
	<-ctx.Done()
	return nil
}

// withRedis calls do with a config that shows what is in Redis, if one is set.
func (r redisFlags) withRedis(ctx context.Context, config dashboard.Config, do func(dashboard.Config) error) error {
	if r.Redis == "" {
		return do(config)
	}
	return r.open(ctx, func(rdb redis.UniversalClient) error {
		config.DeadLetters = redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: r.Prefix})
		config.Store = redisstore.New(rdb, &redisstore.Options{Prefix: r.Prefix})
		return do(config)
	})
}

// board is a dashboard that is being served.
type board struct {
	url    string
	handle *dashboard.Dashboard
	server *http.Server
	source *emulatorsource.Source // nil unless it is of an emulator
}

func openBoard(flag, addr string, config dashboard.Config) (*board, error) {
	handle, err := dashboard.New(config)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		handle.Close()
		return nil, configError(fmt.Errorf("%s: %w", flag, err))
	}
	b := &board{
		url:    "http://" + listener.Addr().String() + "/",
		handle: handle,
		server: &http.Server{Handler: handle, ReadHeaderTimeout: 10 * time.Second},
	}
	go func() { _ = b.server.Serve(listener) }() // ends with close
	return b, nil
}

func (b *board) close() {
	b.handle.Close()
	_ = b.server.Close()
	if b.source != nil {
		_ = b.source.Close()
	}
}

// withBoard serves the dashboard of an emulator, if one is asked for, for as
// long as do runs.
func (c *emulatorCmd) withBoard(ctx context.Context, srv *emulator.Server, do func()) error {
	if c.Dashboard == "" {
		do()
		return nil
	}
	return c.withRedis(ctx, dashboard.Config{Loopback: true}, func(config dashboard.Config) error {
		source, err := emulatorsource.New(srv)
		if err != nil {
			return err
		}
		config.Source = source
		if c.redrives() {
			client, err := c.redriver(ctx, srv)
			if err != nil {
				return errors.Join(err, source.Close())
			}
			defer client.Close()
			config.Client = client
		}
		b, err := openBoard("--dashboard", c.Dashboard, config)
		if err != nil {
			return errors.Join(err, source.Close())
		}
		b.source = source
		defer b.close()
		fmt.Printf("handoff emulator: dashboard on %s\n", b.url)
		do()
		return nil
	})
}

// redriver returns the client that makes tasks of dead letters in srv.
func (c *emulatorCmd) redriver(ctx context.Context, srv *emulator.Server) (*handoff.Client, error) {
	target, err := c.target()
	if err != nil {
		return nil, err
	}
	return handoff.NewClient(ctx, handoff.ClientConfig{Project: c.Project, Location: c.Location, Target: target, Options: srv.ClientOptions()})
}

// checkLoopback refuses an address that others could reach, before a port is
// opened on it.
func checkLoopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usagef("%s is %q; it must be host:port", flag, addr)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return usagef("%s is %q; the dashboard has no login, so it must be an address of this machine alone, such as 127.0.0.1:8080", flag, addr)
}
