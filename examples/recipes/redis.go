package recipes

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
)

// OpenRedis connects to rediss://USER:PASSWORD@HOST:PORT/DB, whose certificate is
// signed by a CA of the company's own.
func OpenRedis(url, caFile string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil || options.TLSConfig == nil {
		return nil, errors.New("recipes: the address of Redis must be rediss://user:password@host:port") // and not err, which may quote the password
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("recipes: the CA of Redis: %w", err)
	}
	options.TLSConfig.RootCAs = x509.NewCertPool()
	if !options.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("recipes: the CA of Redis: %s has no certificate in PEM", caFile)
	}
	options.TLSConfig.MinVersion = tls.VersionTLS12
	options.ContextTimeoutEnabled = true
	options.DisableIdentity = true // the user may not CLIENT SETINFO
	return redis.NewClient(options), nil
}

// Stores returns the fence and the dead letters of one environment. All workers of
// an environment have the same prefix, and no other environment has it.
func Stores(rdb redis.UniversalClient, environment string) (handoff.Store, handoff.DeadLetterStore) {
	prefix := environment + ":"
	return redisstore.New(rdb, &redisstore.Options{Prefix: prefix}),
		redisstore.NewDeadLetters(rdb, &redisstore.DeadLetterOptions{Prefix: prefix})
}
