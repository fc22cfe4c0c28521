package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/internal/rpc"
	"github.com/brillconsulting/handoff/redisstore"
)

// placeFlags name the project and the location of queues.
type placeFlags struct {
	Project  string `env:"GOOGLE_CLOUD_PROJECT"  help:"The project of the queues ($$${env})."                placeholder:"ID"`
	Location string `env:"GOOGLE_CLOUD_LOCATION" help:"Their location, such as europe-west1 ($$${env})." placeholder:"ID"`
}

// check reports what is missing, and an emulator that is not there: Google's
// client would try for 20 seconds to reach it.
func (p *placeFlags) check(ctx context.Context) error {
	switch {
	case p.Project == "":
		return usagef("no project: add --project ID, or set GOOGLE_CLOUD_PROJECT")
	case p.Location == "":
		return usagef("no location: add --location ID, such as europe-west1, or set GOOGLE_CLOUD_LOCATION")
	}
	host := os.Getenv(rpc.EmulatorVariable)
	if host == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return usagef("%s is %q; it must be host:port", rpc.EmulatorVariable, host)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return fmt.Errorf("%w: start it by handoff emulator --grpc %s, or unset %s", err, host, rpc.EmulatorVariable)
	}
	return conn.Close()
}

// admin calls do with a connection, and closes it.
func (p *placeFlags) admin(ctx context.Context, do func(*admin.Admin) error) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	a, err := admin.New(ctx, admin.Config{Project: p.Project, Location: p.Location})
	if err != nil {
		return err
	}
	defer a.Close()
	return do(a)
}

// client calls do with a client, and closes it.
func (p *placeFlags) client(ctx context.Context, target handoff.Target, do func(*handoff.Client) error) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	config := handoff.ClientConfig{Project: p.Project, Location: p.Location, Target: target, DraftOnly: true}
	if _, err := handoff.NewClient(ctx, config); err != nil {
		return usageError{err} // this one opens no connection, so the settings are wrong
	}
	config.DraftOnly = false
	client, err := handoff.NewClient(ctx, config)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(client)
}

// redisFlags name the Redis of the workers' fence and dead letters.
type redisFlags struct {
	Redis     string `env:"HANDOFF_REDIS_URL,REDIS_URL" help:"The Redis of the workers, redis[s]://[user:password@]host:port[/db] (${env}; a variable keeps the password out of the process list)." placeholder:"URL"`
	RedisMode string `default:"standalone" enum:"standalone,cluster,sentinel" env:"HANDOFF_REDIS_MODE" help:"What it is: standalone, cluster (more nodes as ?addr=host:port) or sentinel (?master_name=NAME) ($$${env})." placeholder:"MODE"`
	RedisCA   string `env:"HANDOFF_REDIS_CA" help:"File of the CA certificates, in PEM, that a rediss:// server is verified by ($$${env}). Defaults to the system's." name:"redis-ca" placeholder:"FILE"`
	Prefix    string `env:"HANDOFF_PREFIX" help:"Prefix of the keys, if the workers have one (redisstore.Options.Prefix, $$${env})." placeholder:"PREFIX"`
}

// open connects for as long as do runs.
func (r redisFlags) open(ctx context.Context, do func(redis.UniversalClient) error) error {
	if r.Redis == "" {
		return usagef("no Redis: add --redis redis://host:port, or set HANDOFF_REDIS_URL or REDIS_URL")
	}
	trust, err := r.trust()
	if err != nil {
		return err
	}
	rdb, err := r.connect(trust)
	if err != nil {
		// Not err: it may quote the URL, and that has a password.
		return usagef("--redis is no URL of a %s Redis; it must be redis[s]://[user:password@]host:port[/db] with the parameters that go-redis knows", r.RedisMode)
	}
	defer rdb.Close()
	if err := reach(ctx, rdb); err != nil {
		return fmt.Errorf("%w: check --redis, --redis-mode and, with TLS, --redis-ca, and that Redis is up", err)
	}
	return do(rdb)
}

// letters calls do with the store of dead letters, and closes its connection.
func (r redisFlags) letters(ctx context.Context, do func(*redisstore.DeadLetters) error) error {
	return r.open(ctx, func(rdb redis.UniversalClient) error {
		return do(redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: r.Prefix}))
	})
}

// trust returns the certificates of --redis-ca, nil for the system's.
func (r redisFlags) trust() (*x509.CertPool, error) {
	if r.RedisCA == "" {
		return nil, nil //nolint:nilnil // nil is the system's, as in tls.Config
	}
	if !strings.HasPrefix(r.Redis, "rediss:") {
		return nil, usagef("--redis-ca is given, and --redis is without TLS; its URL must begin with rediss://")
	}
	pem, err := os.ReadFile(r.RedisCA)
	if err != nil {
		return nil, usagef("--redis-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--redis-ca %s has no certificate; it must be PEM", r.RedisCA)
	}
	return pool, nil
}

// reach checks that Redis responds, within 10 seconds. The client of a sentinel
// would try for most of a minute.
func reach(ctx context.Context, rdb redis.UniversalClient) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no response from Redis in 10 seconds"))
	defer cancel()
	err := rdb.Ping(ctx).Err()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (r redisFlags) connect(trust *x509.CertPool) (redis.UniversalClient, error) {
	redis.SetLogger(quiet{})
	switch r.RedisMode {
	case "cluster":
		options, err := redis.ParseClusterURL(r.Redis)
		if err != nil {
			return nil, err
		}
		options.ContextTimeoutEnabled = true
		verifyBy(options.TLSConfig, trust)
		return redis.NewClusterClient(options), nil
	case "sentinel":
		options, err := redis.ParseFailoverURL(r.Redis)
		if err == nil && options.MasterName == "" {
			err = errors.New("master_name is missing")
		}
		if err != nil {
			return nil, err
		}
		options.ContextTimeoutEnabled = true
		verifyBy(options.TLSConfig, trust)
		return redis.NewFailoverClient(options), nil
	}
	options, err := redis.ParseURL(r.Redis)
	if err != nil {
		return nil, err
	}
	options.ContextTimeoutEnabled = true
	verifyBy(options.TLSConfig, trust)
	return redis.NewClient(options), nil
}

// verifyBy makes TLS, if it is used, verify servers by these certificates.
func verifyBy(config *tls.Config, trust *x509.CertPool) {
	if config != nil && trust != nil {
		config.RootCAs = trust
	}
}

// quiet drops the log of go-redis, since each call returns its error.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// targetFlags name the target of redriven tasks, as handoff.ClientConfig.Target does
// for the producers.
type targetFlags struct {
	Target         string `env:"HANDOFF_TARGET" help:"Where the router is mounted, such as https://worker.example.com/tasks ($$${env})." placeholder:"URL"`
	ServiceAccount string `env:"HANDOFF_SERVICE_ACCOUNT" help:"Email of the account that signs the deliveries ($$${env})." placeholder:"EMAIL"`
	Audience       string `help:"What the signature is for. Defaults to the origin of the target." placeholder:"AUD"`
	Unsigned       bool   `help:"Send deliveries without a signature."`

	AppEnginePath    string `help:"Where the router is mounted in the App Engine app of the project, such as /tasks; instead of --target." placeholder:"PATH"`
	AppEngineService string `help:"The App Engine service. Defaults to the app's own." placeholder:"ID"`
	AppEngineVersion string `help:"The App Engine version. Defaults to the service's own." placeholder:"ID"`
}

// given reports whether a target is set.
func (t targetFlags) given() bool {
	return t.Target+t.AppEnginePath+t.AppEngineService+t.AppEngineVersion != ""
}

func (t targetFlags) target() (handoff.Target, error) {
	appEngine := t.AppEnginePath+t.AppEngineService+t.AppEngineVersion != ""
	switch {
	case appEngine && t.Target != "":
		return nil, usagef("--target and the --app-engine flags are both given; a task is delivered to one of them")
	case appEngine:
		return handoff.AppEngineTarget{Service: t.AppEngineService, Version: t.AppEngineVersion, Path: t.AppEnginePath}, nil
	case t.Target == "":
		return nil, usagef("no target: add --target URL, where the router is mounted, or set HANDOFF_TARGET")
	case t.ServiceAccount == "" && !t.Unsigned:
		return nil, usagef("no signature: add --service-account EMAIL, or set HANDOFF_SERVICE_ACCOUNT, or add --unsigned if the receiver checks none")
	}
	return handoff.HTTPTarget{URL: t.Target, ServiceAccount: t.ServiceAccount, Audience: t.Audience, DangerouslySendUnsigned: t.Unsigned}, nil
}
