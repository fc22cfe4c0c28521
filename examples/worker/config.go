package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/brillconsulting/handoff"
	"github.com/redis/go-redis/v9"
)

// config is the service's configuration, read from the environment.
type config struct {
	port          string             // PORT, which Cloud Run sets
	project       string             // GOOGLE_CLOUD_PROJECT, for trace IDs in Cloud Logging; optional
	audiences     []string           // AUDIENCES
	callers       []string           // CALLERS
	redis         *redis.Options     // REDIS_URL
	trustPlatform bool               // TRUST_PLATFORM: see deploy.md before setting it
	keys          *handoff.KeySource // nil: Google's; set for the emulator
}

// configure reads the environment, and returns every problem at once.
func configure(getenv func(string) string) (config, error) {
	var problems []error
	required := func(name, example string) string {
		value := getenv(name)
		if value == "" {
			problems = append(problems, fmt.Errorf("worker: %s is not set; it must be such as %s", name, example))
		}
		return value
	}
	cfg := config{
		port:      cmp.Or(getenv("PORT"), "8080"),
		project:   getenv("GOOGLE_CLOUD_PROJECT"),
		audiences: list(required("AUDIENCES", "https://worker-123456789012.europe-west1.run.app, the address of this service")),
		callers:   list(required("CALLERS", "tasks@my-project.iam.gserviceaccount.com, the account that tasks are signed as")),
	}
	if text := getenv("TRUST_PLATFORM"); text != "" {
		var err error
		if cfg.trustPlatform, err = strconv.ParseBool(text); err != nil {
			problems = append(problems, fmt.Errorf("worker: TRUST_PLATFORM is %q; it must be true or false", text))
		}
	}
	if url := required("REDIS_URL", "redis://10.0.0.3:6379, or rediss:// for TLS"); url != "" {
		var err error
		if cfg.redis, err = redis.ParseURL(url); err != nil {
			// The parser's error may quote the URL, which may hold a password.
			problems = append(problems, errors.New("worker: REDIS_URL is not the address of a Redis; it must be such as redis://10.0.0.3:6379"))
		}
	}
	if len(problems) > 0 {
		problems = append(problems, errors.New("worker: or try it here: go run -C examples/worker . -local"))
	}
	return cfg, errors.Join(problems...)
}

// list splits a comma-separated list.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
